//! A store in memory that can be made to fail, to wait, and to be shared by several nodes.

use super::*;

/// Sessions in a map. While it is down, every operation fails; while it is held, changes wait, and
/// are made afterwards whether or not somebody still waits for them, like those of a slow disk.
pub(crate) struct Shelf {
    records: Mutex<BTreeMap<SessionId, Record>>,
    down: AtomicBool,
    held: AtomicBool,
    waiting: Mutex<Vec<Waiting>>,
    /// Of each node, when it is shared by several.
    watchers: Mutex<Vec<Arc<dyn Watcher>>>,
    shared: bool,
    counters: Arc<CounterTable>,
}

type Waiting = Box<dyn FnOnce(&Shelf) + Send>;

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

impl Shelf {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            records: Mutex::default(),
            down: AtomicBool::new(false),
            held: AtomicBool::new(false),
            waiting: Mutex::default(),
            watchers: Mutex::default(),
            shared: false,
            counters: Arc::new(CounterTable::new(clock.clone())),
        }
    }

    /// A store of several nodes: each is told of every change.
    pub(crate) fn shared(clock: &Clock) -> Self {
        Self { shared: true, ..Self::new(clock) }
    }

    fn tell(&self, id: SessionId) {
        self.watchers.lock().unwrap().iter().for_each(|watcher| watcher.changed(id));
    }

    /// Loses everything.
    pub(crate) fn forget(&self) {
        self.records.lock().unwrap().clear();
    }

    /// Tells every node that anything may have changed.
    pub(crate) fn flush(&self) {
        self.watchers.lock().unwrap().iter().for_each(|watcher| watcher.flushed());
    }

    pub(crate) fn fail(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Holds changes up.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Makes the changes that wait, and the next ones at once.
    pub(crate) fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.step();
    }

    /// Makes the changes that wait; the next ones wait again.
    pub(crate) fn step(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap());
        waiting.into_iter().for_each(|change| change(self));
    }

    /// Number of changes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    fn now<T>(
        &self,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T,
    ) -> Result<T, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            Err(StoreError::Unavailable("switched off by the test".to_owned()))
        } else {
            Ok(act(&mut self.records.lock().unwrap()))
        }
    }

    fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        Box::pin(std::future::ready(self.now(act)))
    }

    fn change<T: Send + 'static>(
        &self,
        id: SessionId,
        act: impl FnOnce(&mut BTreeMap<SessionId, Record>) -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        if !self.held.load(Ordering::SeqCst) {
            let done = self.now(act);
            self.tell(id);
            return Box::pin(std::future::ready(done));
        }
        let (ack, answer) = oneshot::channel();
        let change = move |shelf: &Self| {
            let done = shelf.now(act);
            shelf.tell(id);
            drop(ack.send(done));
        };
        self.waiting.lock().unwrap().push(Box::new(change));
        Box::pin(async move { answer.await.unwrap() })
    }
}

impl Store for Shelf {
    fn create(&self, record: Record) -> BoxFuture<'_, Result<(), StoreError>> {
        let created = self.change(record.id, |all| match all.entry(record.id) {
            Entry::Occupied(_) => Err(StoreError::Unavailable("the id is in use".to_owned())),
            Entry::Vacant(none) => {
                none.insert(record);
                Ok(())
            }
        });
        Box::pin(async move { created.await? })
    }

    fn load(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Leased>, StoreError>> {
        self.with(|all| {
            let record = all.get(&id).cloned()?;
            Some(Leased { record, lease: Lease::endless() })
        })
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Replaced, StoreError>> {
        self.change(record.id, |all| match all.get(&record.id) {
            None => Replaced::Gone,
            Some(old) if old.generation.checked_add(1) != Some(record.generation) => {
                Replaced::Conflict
            }
            Some(_) => {
                all.insert(record.id, record);
                Replaced::Done
            }
        })
    }

    fn end(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.change(id, move |all| all.remove(&id))
    }

    fn bury(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.change(record.id, move |all| all.insert(record.id, record))
    }

    fn touch(&self, seen: Vec<(SessionId, UnixMs)>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|all| {
            for (id, at) in seen {
                if let Some(record) = all.get_mut(&id) {
                    record.seen = record.seen.max(at);
                }
            }
        })
    }

    fn of_user<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Vec<Record>, StoreError>> {
        let user = user.to_owned();
        self.with(move |all| {
            let mut own: Vec<_> =
                all.values().filter(|r| r.user == user && r.is_listed()).cloned().collect();
            own.sort_by_key(|record| std::cmp::Reverse(record.created));
            own
        })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        self.with(|all| all.values().filter(|r| r.is_listed()).take(limit).cloned().collect())
    }

    fn users(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.with(|all| {
            let listed = all.values().filter(|record| record.is_listed());
            let users: BTreeSet<_> = listed.map(|record| record.user.clone()).collect();
            users.into_iter().collect()
        })
    }

    fn counters(&self) -> Arc<dyn Counters> {
        Arc::<CounterTable>::clone(&self.counters)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.with(|_| ())
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn watch(&self, watcher: Arc<dyn Watcher>) {
        if self.shared {
            self.watchers.lock().unwrap().push(watcher);
        }
    }
}
