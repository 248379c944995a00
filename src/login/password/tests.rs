use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::*;
use crate::session::Group;

const CHEAP: Costs = Costs { memory_kib: 16, passes: 1, lanes: 1 };

/// One account, and the hashes that replaced its first.
#[derive(Debug)]
struct One {
    account: Mutex<Account>,
    rehashes: AtomicU64,
    writable: bool,
}

impl One {
    fn new(password: Option<&str>, writable: bool) -> Arc<Self> {
        let account = Account {
            id: "u1".to_owned(),
            identifier: "alice".to_owned(),
            password: password.map(|text| Secret::new(text.to_owned())),
            ..Account::default()
        };
        Arc::new(Self { account: Mutex::new(account), rehashes: AtomicU64::new(0), writable })
    }

    fn stored(&self) -> String {
        self.account.lock().unwrap().password.as_ref().unwrap().expose().to_owned()
    }
}

impl Directory for One {
    fn epoch(&self) -> u64 {
        0
    }

    fn by_login(&self, identifier: &str) -> Option<Arc<Account>> {
        let account = self.account.lock().unwrap();
        (account.identifier == identifier).then(|| Arc::new(account.clone()))
    }

    fn by_id(&self, id: &str) -> Option<Arc<Account>> {
        self.by_login(id)
    }

    fn group(&self, _: &str) -> Option<Arc<Group>> {
        None
    }

    fn below(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn members(&self, _: &str) -> Vec<Arc<Account>> {
        Vec::new()
    }

    fn rehash(&self, _: &str, old: &Secret, new: &Secret) -> Result<(), String> {
        self.rehashes.fetch_add(1, Ordering::Relaxed);
        if !self.writable {
            return Err("read only".to_owned());
        }
        let mut account = self.account.lock().unwrap();
        assert_eq!(account.password.as_ref().unwrap().expose(), old.expose());
        account.password = Some(new.clone());
        Ok(())
    }
}

fn method(costs: Costs, directory: &Arc<One>, queue: usize) -> (Password, Clock) {
    let clock = Clock::manual(UnixMs(1_000_000));
    let directory = Arc::clone(directory) as Arc<dyn Directory>;
    (Password::start(costs, 1, queue, directory, clock.clone()).unwrap(), clock)
}

fn credentials(name: &str, password: &str) -> Credentials {
    let (identifier, password) = (name.to_owned(), Secret::new(password.to_owned()));
    Credentials::Password { identifier, password }
}

async fn login(method: &Password, name: &str, password: &str) -> Result<Arc<Account>, LoginError> {
    match method.verify(&credentials(name, password)).await? {
        Proven::Account(account) => Ok(account),
        Proven::Key(_) => Err(LoginError::Unsupported),
    }
}

/// Waits until the one thread has done everything that was queued.
fn drain(method: &Password) {
    let (done, wait) = channel();
    method.pool.submit(move || done.send(()).unwrap()).unwrap();
    wait.recv().unwrap();
}

fn hash_of(password: &str, costs: Costs) -> String {
    hash_password(&Secret::new(password.to_owned()), &costs).unwrap().expose().to_owned()
}

#[tokio::test]
async fn only_the_right_password_of_an_active_account_is_accepted() {
    let directory = One::new(Some(&hash_of("secret word", CHEAP)), true);
    let (method, _) = method(CHEAP, &directory, 4);
    assert_eq!(login(&method, "alice", "secret word").await.unwrap().id, "u1");
    for (name, password) in [
        ("alice", "secret worD"),
        ("alice", "secret word "),
        ("alice", ""),
        ("nobody", "secret word"),
        ("", "secret word"),
    ] {
        let error = login(&method, name, password).await.unwrap_err();
        assert_eq!(error, LoginError::Invalid, "{name} {password}");
    }
    directory.account.lock().unwrap().disabled = true;
    assert_eq!(login(&method, "alice", "secret word").await.unwrap_err(), LoginError::Invalid);
    drain(&method);
    assert_eq!(directory.rehashes.load(Ordering::Relaxed), 0, "a current hash stays");
}

#[tokio::test]
async fn everybody_costs_one_hash() {
    let directory = One::new(None, true);
    let (method, _) = method(CHEAP, &directory, 4);
    let mut before = 0;
    for password in [None, Some(hash_of("x", CHEAP)), Some("not a hash".to_owned())] {
        directory.account.lock().unwrap().password = password.map(Secret::new);
        for disabled in [false, true] {
            directory.account.lock().unwrap().disabled = disabled;
            for name in ["alice", "nobody"] {
                login(&method, name, "wrong").await.unwrap_err();
                assert_eq!(method.checks(), before + 1, "{name}");
                before += 1;
            }
        }
    }
    for unusable in [String::new(), "x".repeat(LENGTH + 1)] {
        for name in ["alice", "nobody"] {
            login(&method, name, &unusable).await.unwrap_err();
            assert_eq!(method.checks(), before, "no work for {name}");
        }
    }
}

/// Prints the times; what is asserted is the number of hashes, which no busy machine can change.
#[tokio::test]
async fn unknown_names_take_the_time_of_wrong_passwords() {
    let costs = Costs { memory_kib: 4096, ..Costs::default() };
    let directory = One::new(Some(&hash_of("right", costs)), true);
    let (method, _) = method(costs, &directory, 4);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..15 {
        for (times, name) in times.iter_mut().zip(["alice", "nobody"]) {
            let start = Instant::now();
            login(&method, name, "wrong").await.unwrap_err();
            times.push(start.elapsed());
        }
    }
    assert_eq!(method.checks(), 30);
    let [wrong, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!("median: wrong password {wrong:?}, unknown name {unknown:?}");
}

#[tokio::test]
async fn hashes_of_other_kinds_are_renewed_at_login() {
    let mut out = [0; 32];
    let params = scrypt::Params::new(4, 8, 1).unwrap();
    scrypt::scrypt(b"old password", b"sixteen byte sal", &params, &mut out).unwrap();
    let base64 = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    let scrypt = format!("$scrypt$ln=4,r=8,p=1${}${}", base64(b"sixteen byte sal"), base64(&out));
    let stronger = Costs { memory_kib: 64, ..CHEAP };
    for old in [bcrypt::hash("old password", 4).unwrap(), scrypt, hash_of("old password", stronger)]
    {
        let directory = One::new(Some(&old), true);
        let (method, _) = method(CHEAP, &directory, 4);
        login(&method, "alice", "wrong password").await.unwrap_err();
        drain(&method);
        assert_eq!(directory.stored(), old, "a wrong password renews nothing");
        login(&method, "alice", "old password").await.unwrap();
        drain(&method);
        assert!(directory.stored().starts_with("$argon2id$v=19$m=16,t=1,p=1$"), "{old}");
        login(&method, "alice", "old password").await.unwrap();
        login(&method, "alice", "wrong password").await.unwrap_err();
        drain(&method);
        assert_eq!(directory.rehashes.load(Ordering::Relaxed), 1, "{old}");
    }
}

#[tokio::test]
async fn a_password_that_bcrypt_cuts_keeps_its_hash() {
    let old = bcrypt::hash("x".repeat(80), 4).unwrap();
    let directory = One::new(Some(&old), true);
    let (method, _) = method(CHEAP, &directory, 4);
    login(&method, "alice", &"x".repeat(90)).await.unwrap();
    drain(&method);
    assert_eq!(directory.stored(), old);
    login(&method, "alice", &"x".repeat(72)).await.unwrap();
    drain(&method);
    assert!(directory.stored().starts_with("$argon2id$"));
}

#[tokio::test]
async fn a_directory_that_cannot_write_is_left_alone_for_a_while() {
    let directory = One::new(Some(&bcrypt::hash("old password", 4).unwrap()), false);
    let (method, clock) = method(CHEAP, &directory, 4);
    for _ in 0..3 {
        login(&method, "alice", "old password").await.unwrap();
        drain(&method);
    }
    assert_eq!(directory.rehashes.load(Ordering::Relaxed), 1);
    clock.advance(REHASH_PAUSE);
    login(&method, "alice", "old password").await.unwrap();
    drain(&method);
    assert_eq!(directory.rehashes.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_full_queue_is_busy_and_abandoned_attempts_cost_nothing() {
    let directory = One::new(Some(&hash_of("secret word", CHEAP)), true);
    let (method, _) = method(CHEAP, &directory, 1);
    let (started, wait_started) = channel();
    let (go, wait_go) = channel::<()>();
    method
        .pool
        .submit(move || {
            started.send(()).unwrap();
            wait_go.recv().unwrap();
        })
        .unwrap();
    wait_started.recv().unwrap();
    let queued = credentials("alice", "secret word");
    let mut waiting = method.verify(&queued);
    assert!(poll_once(&mut waiting).is_none(), "queued");
    assert_eq!(login(&method, "alice", "secret word").await.unwrap_err(), LoginError::Busy);
    drop(waiting);
    go.send(()).unwrap();
    // The abandoned attempt leaves the queue without work; then there is room again.
    loop {
        match login(&method, "alice", "secret word").await {
            Err(LoginError::Busy) => tokio::task::yield_now().await,
            other => {
                other.unwrap();
                break;
            }
        }
    }
    assert_eq!(method.checks(), 1);
}

fn poll_once<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
