//! Whether the time of an answer tells if somebody has an account: real requests, by several doors.
//!
//! Attempts at a name that exists and at one that does not alternate, so that whatever else the machine does
//! falls on both. What is compared is where they rank among each other: 0.5 is the same, 0 and 1 tell them
//! apart at a single glance. Only a gross difference fails: a hash that is not computed.

use std::time::{Duration, Instant};

use argon2::password_hash::PasswordHasher;
use argon2::{Algorithm, Argon2, Params, Version};

use super::{Door, Said, builder};
use crate::support::gateway::{cheap_hash, password};
use crate::support::world::{telling, users};

const ROUNDS: usize = 40;

/// At the costs that the gateway uses when nothing is configured.
fn usual_hash(password: &str) -> String {
    let params = Params::new(19_456, 2, 1, None).unwrap();
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: argon2::password_hash::phc::PasswordHash =
        hasher.hash_password_with_salt(password.as_bytes(), b"salt of the tests").unwrap();
    hash.to_string()
}

/// How often one of `a` took longer than one of `b`; ties count half. Mann and Whitney's U over the number
/// of pairs.
fn dominance(a: &[Duration], b: &[Duration]) -> f64 {
    let score = |x: &Duration, y: &Duration| match x.cmp(y) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let all: f64 = a.iter().map(|x| b.iter().map(|y| score(x, y)).sum::<f64>()).sum();
    all / (a.len() * b.len()) as f64
}

/// Two-sided p of that many ranks under chance alone (normal approximation).
fn p_value(dominance: f64, each: usize) -> f64 {
    let n = each as f64;
    let z = (dominance - 0.5).abs() / ((2.0 * n + 1.0) / (12.0 * n * n)).sqrt();
    // Abramowitz and Stegun 26.2.17.
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum: f64 = series.iter().enumerate().map(|(power, c)| c * t.powi(power as i32 + 1)).sum();
    2.0 * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

fn quartiles(times: &[Duration]) -> [f64; 3] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    [1, 2, 3].map(|quarter| sorted[sorted.len() * quarter / 4].as_secs_f64() * 1000.0)
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_who_has_an_account() {
    let app = telling();
    let mut text = users();
    for name in ["alice", "bob", "carol"] {
        text = text.replace(&cheap_hash(&password(name)), &usual_hash(&password(name)));
    }
    assert!(text.contains("m=19456"), "{text}");
    let gateway = builder(&app).users(&text).set("login.password", "parallel", "1").start();
    let mut from = 0_u32;
    for (door, known, unknown) in [
        (Door::Json, "bob", "bab"),
        (Door::Nuvla, "bob", "bab"),
        (Door::VersalId, "1002", "1009"),
        (Door::KalturaLogin, "bob", "bab"),
        (Door::KalturaId, "bob", "bab"),
    ] {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            // The first of a pair may find other caches than the second.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                // From a network of its own each: nobody is slowed down.
                from += 1;
                let [_, _, high, low] = from.to_be_bytes();
                let ip = format!("10.{high}.{low}.1");
                let begun = Instant::now();
                let name = if which == 0 { known } else { unknown };
                let said = door.attempt(&gateway, &ip, name, "wrong").await;
                times[which].push(begun.elapsed());
                assert_eq!(said, Said::Wrong, "{door:?} {name}");
            }
        }
        let dominance = dominance(&times[0], &times[1]);
        let [known, unknown] = times.each_ref().map(|times| quartiles(times));
        println!(
            "{door:?}: known {:.1} ms (quartiles {:.1} to {:.1}), unknown {:.1} ms ({:.1} to {:.1}), \
             known slower in {:.0} % of pairs, p = {:.2}",
            known[1],
            known[0],
            known[2],
            unknown[1],
            unknown[0],
            unknown[2],
            dominance * 100.0,
            p_value(dominance, ROUNDS),
        );
        assert!((0.2..=0.8).contains(&dominance), "{door:?} tells names apart: {dominance}");
    }
}

#[test]
fn ranks_find_what_is_there_and_nothing_else() {
    let times =
        |from: u64| -> Vec<_> { (0..40).map(|n| Duration::from_micros(from + n * 50)).collect() };
    let same = dominance(&times(0), &times(0));
    assert!((same - 0.5).abs() < 1e-9 && p_value(same, 40) > 0.99, "{same}");
    // A third of a hash less.
    let less = dominance(&times(0), &times(2500));
    assert!(less < 0.01 && p_value(less, 40) < 1e-6, "{less}");
    let few = dominance(&times(0), &times(100));
    assert!((0.4..0.5).contains(&few) && p_value(few, 40) > 0.1, "{few}");
}
