//! Runs every target for a short time on stable Rust: all corpus files, then random mutations of them
//! from a fixed seed. For CI; libFuzzer finds more.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_fuzz::{TARGETS, Target};

/// An input that takes longer is a failure: strangers could keep a worker busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest mutated input, in bytes.
const LONGEST: usize = 4096;

const USAGE: &str = "usage: smoke [--seconds N] [--seed N] [TARGET...]";

struct Orders {
    seconds: f64,
    seed: u64,
    targets: Vec<Target>,
}

fn main() -> ExitCode {
    let orders = match orders() {
        Ok(orders) => orders,
        Err(what) => {
            eprintln!("smoke: {what}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    // One line for a panic: a replay of the input shows the rest.
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let watch = Watch::start();
    let mut failed = 0;
    for target in &orders.targets {
        match smoke(target, &orders, &watch) {
            Ok(line) => println!("{:10} {line}", target.name),
            Err(line) => {
                failed += 1;
                println!("{:10} FAILED: {line}", target.name);
            }
        }
    }
    println!("smoke: {} passed, {failed} failed", orders.targets.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn orders() -> Result<Orders, String> {
    let mut orders = Orders { seconds: 2.0, seed: 1, targets: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seconds" => {
                orders.seconds = value()?.parse().map_err(|e| format!("--seconds: {e}"))?
            }
            "--seed" => orders.seed = value()?.parse().map_err(|e| format!("--seed: {e}"))?,
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => orders.targets.push(*target),
                None => return Err(format!("there is no target {name:?}")),
            },
        }
    }
    if orders.targets.is_empty() {
        orders.targets = TARGETS.to_vec();
    }
    Ok(orders)
}

fn smoke(target: &Target, orders: &Orders, watch: &Watch) -> Result<String, String> {
    let seeds = corpus(target.name).map_err(|error| format!("no corpus: {error}"))?;
    for (name, seed) in &seeds {
        run(target, seed, watch).map_err(|what| format!("{name}: {what}"))?;
    }
    let seeds: Vec<&[u8]> = seeds.values().map(Vec::as_slice).collect();
    // Every target has a sequence of its own, the same in every run.
    let mut dice =
        Dice(target.name.bytes().fold(orders.seed, |state, byte| {
            state.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte)
        }));
    let end = Instant::now() + Duration::from_secs_f64(orders.seconds);
    let mut count = 0_u64;
    while Instant::now() < end {
        let input = mutate(&seeds, target.words, &mut dice);
        run(target, &input, watch).map_err(|what| format!("mutation {count}: {what}"))?;
        count += 1;
    }
    Ok(format!("{} corpus files, {count} mutations", seeds.len()))
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn corpus(name: &str) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(home().join("corpus").join(name))? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    if files.is_empty() { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(files) }
}

fn run(target: &Target, input: &[u8], watch: &Watch) -> Result<(), String> {
    watch.begin(target.name, input);
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    watch.end();
    result.map_err(|_| format!("broken by {}", keep(target.name, input)))
}

/// Writes an input down for a replay; its path in words.
fn keep(name: &str, input: &[u8]) -> String {
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let file: PathBuf = home().join("found").join(format!("{name}-{hash:016x}"));
    let written = fs::create_dir_all(home().join("found")).and_then(|()| fs::write(&file, input));
    match written {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("{input:?} (not written down: {error})"),
    }
}

/// Ends the program when one input takes too long: nothing else could.
struct Watch(Arc<Mutex<Option<Now>>>);

/// The input that runs, of which target, since when.
type Now = (Instant, &'static str, Vec<u8>);

impl Watch {
    fn start() -> Self {
        let now: Arc<Mutex<Option<Now>>> = Arc::default();
        let watched = Arc::clone(&now);
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(500));
                let now = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((since, name, input)) = &*now
                    && since.elapsed() > PATIENCE
                {
                    println!(
                        "{name:10} FAILED: {PATIENCE:?} were not enough for {}",
                        keep(name, input)
                    );
                    std::process::exit(1);
                }
            }
        });
        Self(now)
    }

    fn begin(&self, name: &'static str, input: &[u8]) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = Some((Instant::now(), name, input.to_vec()));
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A xorshift generator: what it gives follows from its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`, which may be zero.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 16) % end.max(1) as u64).unwrap_or(0)
    }

    fn choose<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

fn mutate(seeds: &[&[u8]], words: &[&str], dice: &mut Dice) -> Vec<u8> {
    let mut input = dice.choose(seeds).to_vec();
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let end = (at + 1 + dice.below(16)).min(input.len());
        match dice.below(8) {
            0 | 1 => drop(input.splice(at..at, dice.choose(words).bytes())),
            2 => drop(input.splice(at..end.max(at), dice.choose(words).bytes())),
            3 => drop(input.drain(at..end.max(at))),
            4 => {
                let copy = input[at..end.max(at)].to_vec();
                let to = dice.below(input.len() + 1);
                drop(input.splice(to..to, copy));
            }
            5 => {
                let other = dice.choose(seeds);
                let from = dice.below(other.len() + 1);
                drop(input.splice(at.., other[from..].iter().copied()));
            }
            6 => {
                let byte = u8::try_from(dice.below(256)).unwrap_or(0);
                input.insert(at, byte);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}
