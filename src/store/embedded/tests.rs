//! What only the embedded store promises: it outlives crashes, groups commits, heals, and is bounded.

use std::io::{BufRead, BufReader, Error, Result as IoResult};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Condvar, MutexGuard};
use std::task::Poll;
use std::{collections::BTreeMap, sync::Mutex};

use proptest::prelude::*;
use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::*;
use crate::secret::Secret;
use crate::section::Problems;
use crate::session::testing::authority_over;
use crate::session::{Cached, Caller, Command as Order, Credentials, Outcome};
use crate::store::suite::{self, START, document, session};

mod counts;
mod left;

const TICK: Duration = Duration::from_millis(2);

/// A disk in memory that knows what was synced, and that can fail and stall.
#[derive(Clone, Debug, Default)]
struct Tape(Arc<(Mutex<Image>, Condvar)>);

#[derive(Debug, Default)]
struct Image {
    current: Vec<u8>,
    synced: Vec<u8>,
    fault: Fault,
    stalled: bool,
    /// Whether a commit waits for the stalled disk.
    waiting: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    Write,
    Sync,
}

impl Tape {
    fn image(&self) -> MutexGuard<'_, Image> {
        self.0.0.lock().unwrap()
    }

    fn fail(&self, fault: Fault) {
        self.image().fault = fault;
    }

    fn stall(&self, stalled: bool) {
        self.image().stalled = stalled;
        self.0.1.notify_all();
    }

    /// What a machine finds on the disk after its power was cut now.
    fn after_power_cut(&self) -> Self {
        let tape = Self::default();
        let synced = self.image().synced.clone();
        tape.image().current.clone_from(&synced);
        tape.image().synced = synced;
        tape
    }

    fn start(&self, clock: &Clock, max_sessions: u64) -> Embedded {
        let tape = self.clone();
        let open = move || Ok((disk::builder().create_with_backend(tape.clone())?, None));
        let disk = Disk::with(Box::new(open), None).unwrap();
        Embedded::start(disk, clock.clone(), max_sessions, TICK).unwrap()
    }
}

impl StorageBackend for Tape {
    fn len(&self) -> IoResult<u64> {
        Ok(self.image().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        let (image, start) = (self.image(), offset as usize);
        let found = image.current.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(Error::other("read past the end"))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        let mut image = self.image();
        if image.fault == Fault::Write {
            return Err(Error::other("no space left"));
        }
        image.current.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> IoResult<()> {
        let mut image = self.image();
        image.waiting = image.stalled;
        // Bounded, so that a failing test ends.
        let patience = Duration::from_secs(20);
        let mut image =
            self.0.1.wait_timeout_while(image, patience, |image| image.stalled).unwrap().0;
        image.waiting = false;
        if image.fault == Fault::Sync {
            return Err(Error::other("the disk is on fire"));
        }
        image.synced = image.current.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> IoResult<()> {
        let (mut image, start) = (self.image(), offset as usize);
        if image.fault == Fault::Write {
            return Err(Error::other("no space left"));
        }
        image.current[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Waits for a condition that another thread brings about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never happened: {what}");
}

fn healthy(store: &Embedded) -> bool {
    store.health.state().is_ok()
}

/// All live sessions as documents, in order.
async fn content(store: &dyn Store) -> BTreeMap<String, serde_json::Value> {
    let all = store.list(usize::MAX).await.unwrap();
    all.iter().map(|record| (record.id.to_string(), document(record))).collect()
}

fn settings(directory: &Path, more: &str) -> crate::store::Settings {
    let problems = Problems::default();
    let text = format!("path = \"data\"\n{more}");
    let mut table = Section::parse(&directory.join("c.toml"), text, &problems);
    let settings = crate::store::Settings::read(&mut table);
    drop(table);
    assert!(problems.is_empty(), "{:?}", problems.list());
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_store_must_do() {
    let directory = tempfile::tempdir().unwrap();
    suite::run(async |clock: Clock| {
        let one = tempfile::tempdir_in(directory.path()).unwrap().keep();
        settings(&one, "").open(clock).unwrap()
    })
    .await;
    let clock = Clock::manual(START);
    let store = settings(directory.path(), "max_sessions = 5").open(clock.clone()).unwrap();
    suite::bounded(&*store, 5, &clock).await;
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = settings(directory.path(), "").open(Clock::system()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = directory.path().join("data");
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join(home::FILE)), 0o600);
    drop(store);
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(data.join(home::FILE), wide).unwrap();
    let store = settings(directory.path(), "").open(Clock::system()).unwrap();
    assert_eq!(mode(&data.join(home::FILE)), 0o600);
    drop(store);
}

#[tokio::test]
async fn one_process_at_a_time_opens_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path(), "");
    let first = settings.open(Clock::system()).unwrap();
    let record = session("u1", Clock::system().now());
    first.create(record.clone()).await.unwrap();
    let error = settings.open(Clock::system()).unwrap_err();
    let us = std::process::id();
    assert!(matches!(&error, OpenError::InUse { process: Some(id), .. } if *id == us), "{error:?}");
    assert!(error.to_string().contains("another Portcullis (process "), "{error}");
    drop(first);
    let second = settings.open(Clock::system()).unwrap();
    assert!(second.load(record.id).await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("data"), "not a directory").unwrap();
    let error = settings(directory.path(), "").open(Clock::system()).unwrap_err().to_string();
    assert!(error.contains("cannot open the session store in /"), "{error}");
    assert!(error.contains("fix: "), "{error}");
}

#[test]
fn a_machine_without_threads_or_memory_says_nothing_against_the_file() {
    for errno in [rustix::io::Errno::AGAIN, rustix::io::Errno::NOMEM] {
        let error = disk::DiskError::from(redb::Error::Io(errno.into()));
        let text = disk::refused(Path::new("/data"), &error).to_string();
        assert!(text.contains("cannot open the session store in /data"), "{text}");
        assert!(text.contains("fix: raise the limit of processes and threads"), "{text}");
        assert!(!text.contains("damaged"), "{text}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path(), "");
    let store = settings.open(Clock::manual(START)).unwrap();
    for _ in 0..50 {
        store.create(session("u1", START)).await.unwrap();
    }
    drop(store);
    let file = directory.path().join("data").join(home::FILE);
    let sound = std::fs::read(&file).unwrap();
    for damage in [&b"this was a session store"[..], &sound[..sound.len() / 3]] {
        std::fs::write(&file, damage).unwrap();
        let error = settings.open(Clock::manual(START)).unwrap_err();
        assert!(matches!(error, OpenError::Failed { .. }), "{error}");
        assert!(std::fs::read(&file).unwrap().starts_with(damage));
    }
    // Damage in the middle need not be found at once, but it must never end the process.
    for at in (0..sound.len()).step_by(sound.len() / 200) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x55;
        std::fs::write(&file, damaged).unwrap();
        drop(settings.open(Clock::manual(START)));
    }
    std::fs::write(&file, sound).unwrap();
    let store = settings.open(Clock::manual(START)).unwrap();
    assert_eq!(store.list(usize::MAX).await.unwrap().len(), 50);
}

#[test]
fn a_panic_of_the_library_is_left_to_whoever_opens_the_file() {
    let (tell, told) = std::sync::mpsc::channel();
    let broken = move || {
        tell.send(crate::panics::note("here")).unwrap();
        panic!("on purpose")
    };
    let error = disk::Disk::with(Box::new(broken), None).unwrap_err();
    assert!(matches!(error, disk::DiskError::Damaged), "{error}");
    assert!(told.recv().unwrap(), "the hook would tell of it, too");
}

#[tokio::test]
async fn unreadable_records_are_put_aside_and_newer_ones_are_read() {
    let sessions = TableDefinition::<&[u8; 16], &[u8]>::new("sessions");
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let (good, stray) = (session("good", START), session("stray", START));
    let mut newer = document(&session("newer", START));
    (newer["v"], newer["posture"]) = (9.into(), "managed".into());
    let database = disk::builder().create_with_backend(tape.clone()).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(sessions).unwrap();
        let newer_id: SessionId = newer["id"].as_str().unwrap().parse().unwrap();
        let rows = [
            (*good.id.as_bytes(), document(&good).to_string()),
            (*newer_id.as_bytes(), newer.to_string()),
            ([7; 16], "{\"v\": 1}".to_owned()),
            ([8; 16], document(&stray).to_string()),
        ];
        for (key, text) in &rows {
            table.insert(key, text.as_bytes()).unwrap();
        }
    }
    write.commit().unwrap();
    drop(database);

    for _ in 0..2 {
        let store = tape.start(&clock, 10);
        let mut users: Vec<_> = store.memory.list(9, START).into_iter().map(|r| r.user).collect();
        users.sort_unstable();
        assert_eq!(users, ["good", "newer"]);
        let found = content(&store).await;
        assert_eq!(found[newer["id"].as_str().unwrap()], newer);
    }
    let database = disk::builder().create_with_backend(tape).unwrap();
    let read = database.begin_read().unwrap();
    let aside = TableDefinition::<&[u8; 16], &[u8]>::new("quarantine");
    let table = read.open_table(aside).unwrap();
    assert_eq!(table.get(&[7; 16]).unwrap().unwrap().value(), b"{\"v\": 1}");
    let kept = table.get(&[8; 16]).unwrap().unwrap().value().to_vec();
    assert_eq!(kept, document(&stray).to_string().into_bytes());
    assert_eq!(read.open_table(sessions).unwrap().iter().unwrap().count(), 2);
}

#[tokio::test]
async fn what_was_answered_outlives_a_power_cut() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 100);
    let all: Vec<_> = (0..20).map(|_| session("u1", START)).collect();
    for record in &all {
        store.create(record.clone()).await.unwrap();
        let copy = tape.after_power_cut().start(&clock, 100);
        assert_eq!(content(&copy).await, content(&store).await);
    }
    let mut changed = all[0].clone();
    (changed.generation, changed.claim) = (1, "group/staff".to_owned());
    store.replace(changed).await.unwrap();
    let copy = tape.after_power_cut().start(&clock, 100);
    assert_eq!(copy.load(all[0].id).await.unwrap().unwrap().claim, "group/staff");
    for record in &all[..5] {
        store.end(record.id).await.unwrap();
        let copy = tape.after_power_cut().start(&clock, 100);
        assert_eq!(content(&copy).await, content(&store).await);
    }
}

#[tokio::test]
async fn uses_are_written_without_other_changes_and_at_the_end() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 10);
    let record = session("u1", START);
    store.create(record.clone()).await.unwrap();
    let (before, at) = (store.health.commits(), UnixMs(START.0 + 7_000));
    store.touch(vec![(record.id, at)]).await.unwrap();
    until("a commit", || store.health.commits() > before).await;
    let copy = tape.after_power_cut().start(&clock, 10);
    assert_eq!(copy.load(record.id).await.unwrap().unwrap().seen, at);
    let at = UnixMs(START.0 + 9_000);
    store.touch(vec![(record.id, at)]).await.unwrap();
    drop(store);
    let copy = tape.start(&clock, 10);
    assert_eq!(copy.load(record.id).await.unwrap().unwrap().seen, at);
}

#[tokio::test]
async fn a_replacement_does_not_undo_a_use_on_the_disk() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 10);
    let mut record = session("u1", START);
    store.create(record.clone()).await.unwrap();
    let at = UnixMs(START.0 + 7_000);
    store.touch(vec![(record.id, at)]).await.unwrap();
    record.generation = 1;
    store.replace(record.clone()).await.unwrap();
    let on_disk = async || {
        let copy = tape.after_power_cut().start(&clock, 10);
        copy.load(record.id).await.unwrap().unwrap()
    };
    assert_eq!(on_disk().await.generation, 1);
    drop(store);
    assert_eq!(on_disk().await.seen, at);
}

#[tokio::test]
async fn a_healed_disk_holds_what_memory_holds() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = Arc::new(tape.start(&clock, 10_000));
    let all: Vec<_> = (0..3000).map(|_| session("u1", START)).collect();
    let creations: Vec<_> = all
        .iter()
        .map(|record| {
            let (store, record) = (Arc::clone(&store), record.clone());
            tokio::spawn(async move { store.create(record).await })
        })
        .collect();
    for creation in creations {
        creation.await.unwrap().unwrap();
    }
    tape.fail(Fault::Write);
    // More than one commit takes.
    let at = UnixMs(START.0 + 7_000);
    store.touch(all.iter().map(|record| (record.id, at)).collect()).await.unwrap();
    until("a failure", || !healthy(&store)).await;
    tape.fail(Fault::None);
    until("healing", || healthy(&store)).await;
    let copy = tape.after_power_cut().start(&clock, 10_000);
    assert!(content(&copy).await == content(&*store).await, "the file is behind");
}

#[tokio::test]
async fn changes_that_wait_share_a_commit() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = Arc::new(tape.start(&clock, 1000));
    tape.stall(true);
    let all: Vec<_> = (0..200)
        .map(|_| {
            let (store, record) = (Arc::clone(&store), session("u1", START));
            tokio::spawn(async move { store.create(record).await })
        })
        .collect();
    // One turn of this single-threaded runtime: every task has handed over its change.
    tokio::task::yield_now().await;
    assert!(store.list(9).await.unwrap().is_empty(), "not visible before it is durable");
    tape.stall(false);
    for task in all {
        task.await.unwrap().unwrap();
    }
    assert_eq!(store.list(1000).await.unwrap().len(), 200);
    let commits = store.health.commits();
    assert!(commits <= 3, "{commits} commits for 200 changes");
}

#[tokio::test]
async fn a_session_is_refused_from_the_call_that_ends_it() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 10);
    let record = session("u1", START);
    store.create(record.clone()).await.unwrap();
    tape.stall(true);
    let mut end = store.end(record.id);
    let first = std::future::poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx))).await;
    assert!(first.is_pending(), "not answered before it is durable");
    assert!(store.load(record.id).await.unwrap().is_none());
    assert!(store.of_user("u1").await.unwrap().is_empty());
    assert!(store.list(9).await.unwrap().is_empty());
    tape.stall(false);
    assert!(end.await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_whose_creator_has_gone_does_not_stay() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 10);
    tape.stall(true);
    for _ in 0..2 {
        let mut create = store.create(session("gone", START));
        let first = std::future::poll_fn(|cx| Poll::Ready(create.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        // The first is being written when its caller goes, the second waits behind it.
        until("a write", || tape.image().waiting).await;
    }
    tape.stall(false);
    let kept = session("kept", START);
    store.create(kept.clone()).await.unwrap();
    store.create(session("kept", START)).await.unwrap();
    assert!(store.of_user("gone").await.unwrap().is_empty());
    let copy = tape.after_power_cut().start(&clock, 10);
    assert!(copy.of_user("gone").await.unwrap().is_empty());
    assert_eq!(copy.memory.len(), 2);
}

#[tokio::test]
async fn a_failed_disk_refuses_changes_and_heals() {
    for fault in [Fault::Write, Fault::Sync] {
        let (tape, clock) = (Tape::default(), Clock::manual(START));
        let store = tape.start(&clock, 100);
        let (kept, used, ended) =
            (session("u1", START), session("u1", START), session("u1", START));
        for record in [&kept, &used, &ended] {
            store.create(record.clone()).await.unwrap();
        }
        tape.fail(fault);
        let refused = session("u1", START);
        let answer = store.create(refused.clone()).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{fault:?}: {answer:?}");
        assert!(store.load(refused.id).await.unwrap().is_none(), "{fault:?}");
        assert!(store.ready().await.is_err(), "{fault:?}");
        assert!(store.end(kept.id).await.is_err(), "{fault:?}");
        assert!(store.load(kept.id).await.unwrap().is_some(), "{fault:?}: nothing has changed");
        let mut changed = kept.clone();
        (changed.generation, changed.claim) = (1, "group/staff".to_owned());
        assert!(store.replace(changed).await.is_err(), "{fault:?}");
        assert_eq!(store.load(kept.id).await.unwrap().unwrap().generation, 0, "{fault:?}");
        store.touch(vec![(used.id, UnixMs(START.0 + 4_000))]).await.unwrap();
        assert_eq!(store.of_user("u1").await.unwrap().len(), 3, "{fault:?}: reads go on");

        tape.fail(Fault::None);
        until("healing without being asked", || healthy(&store)).await;
        let copy = tape.after_power_cut().start(&clock, 100);
        assert_eq!(content(&copy).await, content(&store).await, "{fault:?}");
        assert!(store.end(ended.id).await.unwrap().is_some(), "{fault:?}");
        store.create(refused.clone()).await.unwrap();
        let copy = tape.after_power_cut().start(&clock, 100);
        assert_eq!(content(&copy).await, content(&store).await, "{fault:?}");
        assert_eq!(copy.memory.len(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn an_end_that_meets_a_failing_disk_leaves_the_session() {
    for fault in [Fault::Write, Fault::Sync] {
        let (tape, clock) = (Tape::default(), Clock::manual(START));
        let store = tape.start(&clock, 100);
        let record = session("u1", START);
        store.create(record.clone()).await.unwrap();
        tape.fail(fault);
        assert!(store.end(record.id).await.is_err(), "{fault:?}");
        assert!(store.load(record.id).await.unwrap().is_some(), "{fault:?}");
        tape.fail(Fault::None);
        until("healing", || healthy(&store)).await;
        let copy = tape.after_power_cut().start(&clock, 100);
        assert!(copy.load(record.id).await.unwrap().is_some(), "{fault:?}: the file agrees");
    }
}

#[tokio::test]
async fn a_logout_on_a_slow_disk_is_final_though_its_client_has_left() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = Arc::new(tape.start(&clock, 10));
    let (authority, audit) = authority_over(Arc::clone(&store) as Arc<dyn Store>, &clock);
    let password = Secret::new("alice".to_owned());
    let alice = Credentials::Password { identifier: "alice".to_owned(), password };
    let login = authority.execute(Order::login(alice), &Caller::default()).await.unwrap();
    let Outcome::Opened(live, token) = login else { panic!("{login:?}") };
    let caller = Caller { session: Some(Arc::clone(&live)), ..Caller::default() };
    tape.stall(true);
    let core = Arc::clone(&authority);
    let request = tokio::spawn(async move { core.execute(Order::Logout, &caller).await });
    until("a write", || tape.image().waiting).await;
    assert!(authority.load(&token).await.unwrap().is_none(), "refused from the start");
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    tape.stall(false);
    until("the end of its streams", || live.pulse().is_over(clock.now())).await;
    assert!(!matches!(authority.cached(&token, clock.now()), Cached::Live(_)));
    until("a line", || audit.of("session-end", "reason") == ["logout"]).await;
    let copy = tape.after_power_cut().start(&clock, 10);
    assert!(copy.load(live.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn expired_sessions_leave_memory_and_file() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 10_000);
    let mut creations = Vec::new();
    for _ in 0..700 {
        creations.push(store.create(session("u1", START)));
    }
    for creation in creations {
        creation.await.unwrap();
    }
    let used = store.list(1).await.unwrap().remove(0);
    clock.advance(Duration::from_secs(300));
    store.touch(vec![(used.id, clock.now())]).await.unwrap();
    clock.advance(Duration::from_secs(361));
    until("the sweep", || store.memory.len() == 1).await;
    assert!(store.load(used.id).await.unwrap().is_some(), "its last use has put off its end");
    // The next answer comes after the sweep's commit.
    store.end(SessionId::issue().unwrap()).await.unwrap();
    let copy = tape.after_power_cut().start(&Clock::manual(START), 10_000);
    assert_eq!(copy.memory.len(), 1);
    clock.advance(Duration::from_secs(600));
    until("the last one", || store.memory.len() == 0).await;
}

#[tokio::test]
async fn what_expired_while_the_store_was_closed_is_not_loaded() {
    let (tape, clock) = (Tape::default(), Clock::manual(START));
    let store = tape.start(&clock, 10);
    store.create(session("u1", START)).await.unwrap();
    drop(store);
    clock.advance(Duration::from_secs(601));
    let store = tape.start(&clock, 10);
    assert_eq!(store.memory.len(), 0);
    drop(store);
    assert_eq!(tape.start(&Clock::manual(START), 10).memory.len(), 0, "gone from the file, too");
}

/// Names the directory in which a child process is to change sessions until it is killed.
const CHILD: &str = "PORTCULLIS_TEST_STORE_CHILD";

/// Creates sessions and ends every third, and says so when it was answered.
async fn change_until_killed(directory: &Path) {
    let store = settings(directory, "").open(Clock::system()).unwrap();
    for number in 0_u64.. {
        let record = session("u1", Clock::system().now());
        store.create(record.clone()).await.unwrap();
        println!("\ncreated {}", record.id);
        if number % 3 == 0 {
            store.end(record.id).await.unwrap();
            println!("\nended {}", record.id);
        }
    }
}

#[tokio::test]
async fn what_was_answered_outlives_kill_9() {
    if let Some(directory) = std::env::var_os(CHILD) {
        return change_until_killed(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("store::embedded::tests::what_was_answered_outlives_kill_9")
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answered = BTreeMap::new();
    let mut note = |line: String| {
        if let Some((what @ ("created" | "ended"), id)) = line.split_once(' ') {
            answered.insert(id.parse::<SessionId>().unwrap(), what == "created");
        }
    };
    lines.by_ref().take(400).for_each(|line| note(line.unwrap()));
    child.kill().unwrap();
    child.wait().unwrap();
    // The last line may be cut.
    for line in lines.map_while(Result::ok).filter(|line| line.len() >= 42) {
        note(line);
    }
    assert!(answered.len() > 50, "{}", answered.len());
    let store = settings(directory.path(), "").open(Clock::system()).unwrap();
    for (id, lives) in answered {
        assert_eq!(store.load(id).await.unwrap().is_some(), lives, "{id}");
    }
}

/// Something done to one of a few sessions, or to the machine.
#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Break(bool),
    Create(usize),
    End(usize),
    Mend,
    PowerCut,
    Reopen,
    Replace(usize, bool),
    Touch(usize, u64),
}

const SLOTS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0_u64..400).prop_map(Step::Advance),
        1 => any::<bool>().prop_map(Step::Break),
        6 => (0..SLOTS).prop_map(Step::Create),
        3 => (0..SLOTS).prop_map(Step::End),
        2 => Just(Step::Mend),
        1 => Just(Step::PowerCut),
        1 => Just(Step::Reopen),
        3 => (0..SLOTS, any::<bool>()).prop_map(|(slot, right)| Step::Replace(slot, right)),
        3 => (0..SLOTS, 0_u64..20_000).prop_map(|(slot, by)| Step::Touch(slot, by)),
    ]
}

/// The store beside what it should hold.
struct Model {
    tape: Tape,
    clock: Clock,
    store: Embedded,
    ids: Vec<SessionId>,
    expected: BTreeMap<SessionId, Record>,
    broken: bool,
}

impl Model {
    fn new() -> Self {
        let (tape, clock) = (Tape::default(), Clock::manual(START));
        let store = tape.start(&clock, SLOTS as u64 + 1);
        let ids = (0..SLOTS).map(|_| SessionId::issue().unwrap()).collect();
        Self { tape, clock, store, ids, expected: BTreeMap::new(), broken: false }
    }

    /// Waits until the disk works, and everything that was asked so far is on it.
    async fn settle(&mut self) {
        self.tape.fail(Fault::None);
        self.broken = false;
        let mark = session("mark", self.clock.now());
        while self.store.create(mark.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.store.end(mark.id).await.unwrap();
    }

    async fn create(&mut self, id: SessionId, slot: usize) {
        let mut record =
            session(if slot.is_multiple_of(2) { "even" } else { "odd" }, self.clock.now());
        record.id = id;
        let answer = self.store.create(record.clone()).await;
        let free = !self.expected.contains_key(&id);
        assert_eq!(answer.is_ok(), free && !self.broken, "{answer:?}");
        if answer.is_ok() {
            self.expected.insert(id, record);
        }
    }

    async fn replace(&mut self, id: SessionId, right: bool) {
        let current = self.expected.get(&id).cloned();
        let mut record = current.clone().unwrap_or_else(|| session("even", self.clock.now()));
        record.id = id;
        record.generation += if right { 1 } else { 2 };
        record.claim = format!("group/{}", record.generation);
        let due = match (&current, right) {
            (None, _) => Replaced::Gone,
            (Some(_), false) => Replaced::Conflict,
            (Some(_), true) => Replaced::Done,
        };
        match self.store.replace(record.clone()).await {
            Ok(answer) => {
                assert_eq!(answer, due);
                assert!(!self.broken || due != Replaced::Done, "nothing was written");
                if due == Replaced::Done {
                    self.expected.insert(id, record);
                }
            }
            Err(error) => assert!(self.broken, "{error}"),
        }
    }

    async fn end(&mut self, id: SessionId) {
        match self.store.end(id).await {
            Ok(ended) => {
                let expected = self.expected.remove(&id);
                assert_eq!(ended.as_ref().map(document), expected.as_ref().map(document));
                assert!(!self.broken || ended.is_none(), "nothing was written");
            }
            Err(error) => assert!(self.broken, "{error}"),
        }
    }

    async fn advance(&mut self, seconds: u64) {
        self.settle().await;
        self.clock.advance(Duration::from_secs(seconds));
        let now = self.clock.now();
        for id in &self.ids {
            // Whether it is swept yet is not said; from here on it is gone in any case.
            if self.expected.get(id).is_some_and(|record| record.ends() <= now) {
                self.store.end(*id).await.unwrap();
                self.expected.remove(id);
            }
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Advance(seconds) => self.advance(seconds).await,
            Step::Break(early) => {
                self.tape.fail(if early { Fault::Write } else { Fault::Sync });
                self.broken = true;
            }
            Step::Create(slot) => self.create(self.ids[slot], slot).await,
            Step::End(slot) => self.end(self.ids[slot]).await,
            Step::Mend => self.settle().await,
            Step::PowerCut => {
                self.settle().await;
                self.tape = self.tape.after_power_cut();
                self.store = self.tape.start(&self.clock, SLOTS as u64 + 1);
            }
            Step::Reopen => {
                self.settle().await;
                let other = Tape::default().start(&self.clock, 1);
                drop(std::mem::replace(&mut self.store, other));
                self.store = self.tape.start(&self.clock, SLOTS as u64 + 1);
            }
            Step::Replace(slot, right) => self.replace(self.ids[slot], right).await,
            Step::Touch(slot, by) => {
                let (id, at) = (self.ids[slot], UnixMs(self.clock.now().0 + by));
                self.store.touch(vec![(id, at)]).await.unwrap();
                if let Some(record) = self.expected.get_mut(&id) {
                    record.seen = record.seen.max(at);
                }
            }
        }
    }

    async fn check(&self) {
        let all: BTreeMap<_, _> =
            self.expected.values().map(|r| (r.id.to_string(), document(r))).collect();
        assert_eq!(content(&self.store).await, all);
        for user in ["even", "odd"] {
            let mut found: Vec<_> =
                self.store.of_user(user).await.unwrap().iter().map(document).collect();
            found.sort_by_key(|record| record["id"].to_string());
            let due: Vec<_> =
                all.values().filter(|record| record["user"] == user).cloned().collect();
            assert_eq!(found, due);
        }
        for id in &self.ids {
            let found = self.store.load(*id).await.unwrap();
            assert_eq!(found.as_deref().map(document), self.expected.get(id).map(document));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_like_a_map(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new();
            for step in steps {
                model.take(step).await;
                model.check().await;
            }
        });
    }
}
