//! The one pipeline for every kind and verb: default → admit → prepare → validate → write.
//!
//! Called by the typed client and by the server; may call `api`, `store`, `admission`, `alloc`.
//! **Not here**: JSON from clients and its field checks, patches and media types (`server`), kinds' own rules (`api/kinds`).
//! **Source**: `k8s.io/apiserver/pkg/registry/generic/registry/store.go`, v1.37.

pub use super::options::{Config, DeleteOptions, Deleted, Part, Propagation, Selection, Warnings, WriteOptions};
use super::{
    admission, alloc,
    encode::Encoder,
    events::{self, EventQueue},
    fence::Fence,
    keys, metadata, quota,
};
use crate::{
    api::{
        bounds::STORED_BYTES_MAX,
        kind::{ErasedKind, KindInfo, TypedKind},
        kinds::{Kinds, NameTaken, resource_quota::RESOURCE_QUOTAS},
        managed::{self, Reach, Writer},
        meta::{ObjectKey, Revision},
        object::DynObject,
        status::ApiError,
    },
    base::{
        clock::{Clock, whole_seconds},
        rng::Rng,
        task::Drain,
    },
    store::{Committed, Entry, Expect, NewValue, Snapshot, Store, Txn, TxnError, WatchError, Write, hub::Watch},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use std::{any::Any, sync::Arc};
use tokio::sync::watch;

/// How often an update is tried again when other writers come between, before it gives up with a conflict.
const UPDATE_TRIES_MAX: usize = 64;
/// How many generated names are tried. Source: `maxNameGenerationCreateAttempts`, registry/store.go.
const NAME_TRIES_MAX: usize = 8;

/// The API as functions. Clones share one registry.
#[derive(Clone)]
pub struct Registry(Arc<Inner>, Way);

/// The way of a registry's writes to the store.
#[derive(Clone, Default)]
struct Way {
    fence: Option<Fence>,
    /// Whether a test has cut it.
    #[cfg(any(test, feature = "testing"))]
    is_cut: Arc<std::sync::atomic::AtomicBool>,
}

struct Inner {
    store: Store,
    clock: Clock,
    rng: Rng,
    config: Config,
    kinds: watch::Sender<Arc<Kinds>>,
    encoder: Encoder,
    allocator: alloc::Allocator,
    quota_turns: quota::Turns,
    events: EventQueue,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// Makes the new object from the current entry.
pub type Change<'a> = dyn FnMut(&Entry) -> Result<Box<dyn DynObject>, ApiError> + Send + 'a;

/// The typed object that an entry of kind `K` holds, decoded once and shared where the pipeline decodes to that type; each time elsewhere.
pub fn decoded<K: TypedKind>(entry: &Entry) -> Arc<K::Object> {
    let read = || Arc::new(K::read(&entry.value).expect("stored objects decode as their kind"));
    if !K::IS_SHARED {
        return read();
    }
    let any = entry.decoded.get_or_init(|| read());
    Arc::clone(any).downcast().expect("an entry's key names its kind")
}

/// Reads an entry's decoded form, or decodes it; one that is kept is shared with whoever reads the entry next.
///
/// # Errors
/// When the bytes are none of the kind.
pub fn with_decoded<R>(
    kind: &dyn ErasedKind,
    entry: &Entry,
    is_kept: bool,
    read: impl FnOnce(&dyn DynObject) -> R,
) -> Result<R, serde_json::Error> {
    let is_own = kind.info().stored_as.is_none();
    if let (true, Some(shared)) = (is_own, entry.decoded.get()) {
        return Ok(read(kind.shared_dyn(&**shared)));
    }
    let made = kind.decode_shared(&entry.value)?;
    let result = read(kind.shared_dyn(&*made));
    if is_own && is_kept {
        drop(entry.decoded.set(made));
    }
    Ok(result)
}

/// Keeps an object's metadata, all but the revision that a write is based on and the managers of fields.
fn keep_metadata(new: &mut dyn DynObject, old: &dyn DynObject) {
    let meta = new.meta_mut();
    let (revision, managers) = (meta.resource_version.take(), meta.managed_fields.take());
    *meta = old.meta().clone();
    (meta.resource_version, meta.managed_fields) = (revision, managers);
}

/// Whether an object is marked for deletion.
fn is_going(kind: &dyn ErasedKind, entry: &Entry) -> bool {
    kind.shared_dyn(&*shared(kind, entry)).meta().deletion_timestamp.is_some()
}

/// [`decoded`] of a kind that is known by its table row only; [`ErasedKind::shared_dyn`] reads it.
fn shared(kind: &dyn ErasedKind, entry: &Entry) -> Arc<dyn Any + Send + Sync> {
    let read = || kind.decode_shared(&entry.value).expect("stored objects decode as their kind");
    if kind.info().stored_as.is_some() { read() } else { Arc::clone(entry.decoded.get_or_init(read)) }
}

impl Registry {
    /// A registry over this store.
    pub fn new(store: Store, clock: Clock, rng: Rng, config: Config) -> Self {
        let encoder = Encoder::new(&rng);
        let (allocator, quota_turns) = (alloc::Allocator::default(), quota::Turns::default());
        let kinds = watch::Sender::new(Arc::new(Kinds::default()));
        let events = EventQueue::default();
        let inner = Inner { store, clock, rng, config, kinds, encoder, allocator, quota_turns, events };
        Self(Arc::new(inner), Way::default())
    }

    /// The same registry, whose writes happen only while the fence holds.
    #[must_use]
    pub fn fenced(&self, fence: Fence) -> Self {
        let mut way = self.1.clone();
        way.fence = Some(fence);
        Self(Arc::clone(&self.0), way)
    }

    /// The same registry, whose writes do not reach the store while this is set; nor those of registries that are made of it.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn partitioned(&self, is_cut: Arc<std::sync::atomic::AtomicBool>) -> Self {
        Self(Arc::clone(&self.0), Way { is_cut, ..self.1.clone() })
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The clock that stamps objects.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The source of UIDs and names.
    pub fn rng(&self) -> &Rng {
        &self.0.rng
    }

    /// What it knows of the cluster.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The kinds that are served now.
    pub fn kinds(&self) -> Arc<Kinds> {
        Arc::clone(&self.0.kinds.borrow())
    }

    /// Tells of each change of [`Registry::kinds`].
    pub fn kinds_watch(&self) -> watch::Receiver<Arc<Kinds>> {
        self.0.kinds.subscribe()
    }

    /// Serves one kind more, or another form of one that was added. Objects that are stored under its name already are its.
    ///
    /// # Errors
    /// The name is a compiled-in kind's.
    pub fn add_kind(&self, kind: Arc<dyn ErasedKind>) -> Result<(), NameTaken> {
        let mut outcome = Ok(());
        self.0.kinds.send_if_modified(|kinds| match kinds.with(Arc::clone(&kind)) {
            Ok(with) => {
                *kinds = Arc::new(with);
                true
            }
            Err(taken) => {
                outcome = Err(taken);
                false
            }
        });
        outcome
    }

    /// Clients see nothing of the kinds for which this holds, from now on.
    pub fn hide_kinds(&self, is_hidden: fn(&KindInfo<'_>) -> bool) {
        self.0.kinds.send_modify(|kinds| *kinds = Arc::new(kinds.hiding(is_hidden)));
    }

    /// Serves an added kind no more: its watches end. Its objects stay in the store; who takes the kind away has removed them.
    pub fn remove_kind(&self, group: &str, version: &str, plural: &str) {
        self.0.kinds.send_if_modified(|kinds| {
            let without = kinds.without(group, version, plural);
            let is_changed = without.revision() != kinds.revision();
            *kinds = Arc::new(without);
            is_changed
        });
    }

    /// The typed client for a kind.
    pub fn api<K: TypedKind>(&self) -> super::client::Api<K> {
        super::client::Api::new(self.clone())
    }

    /// The queue of events to record.
    /// How many Events were dropped because too many waited to be written.
    pub fn events_dropped(&self) -> u64 {
        self.0.events.dropped()
    }

    pub(super) fn events(&self) -> &EventQueue {
        &self.0.events
    }

    /// Writes the recorded events until drained. One task runs this.
    pub async fn run_events(self, drain: Drain) {
        events::run(self, drain).await;
    }

    /// An object's entry.
    pub fn entry(&self, kind: &dyn ErasedKind, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.0.store.get(&keys::key(kind.info(), key))
    }

    /// The entries that a selection picks, of a namespace or (when it is empty) of all.
    pub fn snapshot(&self, kind: &dyn ErasedKind, namespace: &str, selection: &Selection) -> Snapshot {
        let mut snapshot = self.0.store.range(&keys::prefix(kind.info(), namespace));
        if !selection.is_everything() {
            snapshot.entries.retain(|e| selection.matches(e));
        }
        snapshot
    }

    /// Whether there is an object of a kind in a namespace.
    pub fn has_any(&self, kind: &dyn ErasedKind, namespace: &str) -> bool {
        self.0.store.has_any(&keys::prefix(kind.info(), namespace))
    }

    /// The entries of a kind that the object of this UID owns.
    pub fn owned_entries(&self, kind: &dyn ErasedKind, owner_uid: &str) -> Vec<Arc<Entry>> {
        let prefix = keys::kind_prefix(kind.info());
        let mut entries = self.0.store.by_term(&keys::owner_term(owner_uid));
        entries.retain(|e| e.key.starts_with(&prefix));
        entries
    }

    /// Changes of a kind after a revision.
    pub fn watch_kind(&self, kind: &dyn ErasedKind, from: Revision) -> Result<Watch, WatchError> {
        self.watch(kind, "", from)
    }

    /// Changes of a kind after a revision, of a namespace or (when it is empty) of all.
    pub fn watch(&self, kind: &dyn ErasedKind, namespace: &str, from: Revision) -> Result<Watch, WatchError> {
        self.0.store.watch(&keys::prefix(kind.info(), namespace), from)
    }

    /// Creates an object. With `dry_run` the entry returned is not in the store.
    ///
    /// # Errors
    /// `Invalid`, `Forbidden`, `NotFound` (of the namespace) and `BadRequest` for the caller's mistakes, `AlreadyExists`, `Unavailable`.
    pub async fn create(
        &self,
        kind: &dyn ErasedKind,
        namespace: &str,
        mut obj: Box<dyn DynObject>,
        options: &WriteOptions,
    ) -> Result<Arc<Entry>, ApiError> {
        let info = kind.info();
        let now = Time(whole_seconds(self.0.clock.now()));
        metadata::before_create(info, namespace, obj.meta_mut(), self.0.rng.uid(), now)?;
        let generates_name = obj.meta().name.as_deref().unwrap_or_default().is_empty();
        kind.set_defaults(&mut *obj);
        kind.warnings(&*obj).into_iter().for_each(|warning| options.warnings.add(Some(warning)));
        admission::on_create(self, info, &mut *obj)?;
        kind.prepare_create(&mut *obj);
        if kind.has_generation() {
            obj.meta_mut().generation = Some(1);
        }
        let _allocating = self.0.allocator.begin(&*obj).await;
        alloc::on_create(self, &mut *obj)?;
        admission::complete(self, None, &mut *obj)?;
        self.manage(kind, None, &mut *obj, Part::Main, options)?;
        for tries in 1.. {
            if generates_name {
                metadata::generate_name(obj.meta_mut(), &self.0.rng);
            }
            kind.on_named(&mut *obj);
            check_create(kind, &*obj)?;
            admission::on_write(self, info, None, &*obj, options)?;
            match self.put_new(kind, &mut *obj, options).await {
                Err(ApiError::AlreadyExists { .. }) if generates_name && tries < NAME_TRIES_MAX => {}
                done => return done,
            }
        }
        unreachable!("the loop returns at its last try")
    }

    async fn put_new(
        &self,
        kind: &dyn ErasedKind,
        obj: &mut dyn DynObject,
        options: &WriteOptions,
    ) -> Result<Arc<Entry>, ApiError> {
        let (info, name) = (kind.info(), obj.meta().name.clone().unwrap_or_default());
        let key = keys::key(info, &ObjectKey::of(obj.meta()));
        let exists = |there: Option<&Arc<Entry>>| ApiError::AlreadyExists {
            resource: info.resource(),
            name: name.clone(),
            is_going: there.is_some_and(|entry| is_going(kind, entry)),
        };
        if options.dry_run {
            quota::charge(self, info, None, obj)?;
            return match self.0.store.get(&key) {
                Some(there) => Err(exists(Some(&there))),
                None => Ok(Encoder::detached(kind, obj, &key)),
            };
        }
        let (value, attrs) = self.0.encoder.encode(kind, obj);
        check_size(&value)?;
        let _turn = self.0.quota_turns.begin(self, info, obj, true).await;
        for _ in 0..UPDATE_TRIES_MAX {
            let mut txn = Txn::default();
            self.pay(&mut txn, quota::charge(self, info, None, obj)?);
            txn.expect.push(Expect::Absent(key.clone()));
            txn.writes.push(Write::Put { key: key.clone(), value: value.clone(), attrs: attrs.clone() });
            match self.commit(txn).await? {
                Ok(committed) => return Ok(written(&committed)),
                Err(at) if at == key => return Err(exists(self.0.store.get(&key).as_ref())),
                // A quota was counted anew meanwhile, or is another.
                Err(_) => {}
            }
        }
        Err(ApiError::modified(info, &name))
    }

    /// Adds to a transaction what it uses of quotas.
    fn pay(&self, txn: &mut Txn, charges: Vec<quota::Charged>) {
        for mut charge in charges {
            let key = charge.entry.key.to_string();
            let (value, attrs) = self.0.encoder.encode(&RESOURCE_QUOTAS, &mut charge.quota);
            txn.expect.push(Expect::Unchanged(key.clone(), charge.entry.modified));
            txn.writes.push(Write::Put { key, value, attrs });
        }
    }

    /// Changes an object: `change` makes the new object from the current entry, and runs again when another write came between,
    /// unless the new object names the `resourceVersion` it is based on. An update that changes nothing writes nothing.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid` and others for the caller's mistakes, `Unavailable`, and what `change` returns.
    pub async fn update(
        &self,
        kind: &dyn ErasedKind,
        key: &ObjectKey,
        part: Part,
        change: &mut Change<'_>,
        options: &WriteOptions,
    ) -> Result<Arc<Entry>, ApiError> {
        let info = kind.info();
        let store_key = keys::key(info, key);
        for _ in 0..UPDATE_TRIES_MAX {
            let Some(entry) = self.0.store.get(&store_key) else {
                return Err(ApiError::not_found(info, &key.name));
            };
            let mut new = change(&entry)?;
            let old = shared(kind, &entry);
            let old = kind.shared_dyn(&*old);
            metadata::before_update(info, new.meta_mut(), old.meta())?;
            let _allocating = self.0.allocator.begin(&*new).await;
            options.warnings.take();
            kind.warnings(&*new).into_iter().for_each(|warning| options.warnings.add(Some(warning)));
            self.prepare_change(kind, part, &mut *new, old)?;
            if matches!(part, Part::Main | Part::Facet(_)) {
                admission::on_write(self, info, Some(old), &*new, options)?;
            }
            self.manage(kind, Some(&entry), &mut *new, part, options)?;
            if let Some(done) = self.put_changed(kind, (&entry, old), &mut *new, options).await? {
                return Ok(done);
            }
        }
        Err(ApiError::modified(info, &key.name))
    }

    /// Brings the new object to what may be written, or says all that is wrong with it.
    fn prepare_change(
        &self,
        kind: &dyn ErasedKind,
        part: Part,
        new: &mut dyn DynObject,
        old: &dyn DynObject,
    ) -> Result<(), ApiError> {
        kind.set_defaults(new);
        let mut causes;
        match part {
            Part::Main => {
                kind.prepare_update(new, old);
                alloc::on_update(self, new, old)?;
                admission::complete(self, Some(old), new)?;
                if kind.has_generation() && !kind.same_spec(new, old) {
                    new.meta_mut().generation = Some(old.meta().generation.unwrap_or(0) + 1);
                }
                causes = metadata::validate(kind, new.meta());
                causes.extend(metadata::validate_update(new.meta(), old.meta()));
                causes.extend(kind.validate(new));
                causes.extend(kind.validate_update(new, old));
            }
            Part::Status => {
                let annotations = new.meta_mut().annotations.take();
                keep_metadata(new, old);
                causes = Vec::new();
                if kind.status_annotates() && annotations != new.meta().annotations {
                    new.meta_mut().annotations = annotations;
                    causes = metadata::validate(kind, new.meta());
                }
                kind.prepare_status(new, old);
                causes.extend(kind.validate_status(new, old));
            }
            Part::Facet(facet) => {
                keep_metadata(new, old);
                kind.prepare_facet(facet, new, old);
                if kind.has_generation() && !kind.same_spec(new, old) {
                    new.meta_mut().generation = Some(old.meta().generation.unwrap_or(0) + 1);
                }
                causes = kind.validate(new);
                causes.extend(kind.validate_facet(facet, new, old));
            }
            Part::Allocated => causes = kind.validate(new),
        }
        reject(kind.info(), new, causes)
    }

    /// Makes the writer the owner of what a write changes.
    fn manage(
        &self,
        kind: &dyn ErasedKind,
        before: Option<&Entry>,
        new: &mut dyn DynObject,
        part: Part,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        // What nobody owns yet stays so when the cluster itself writes: its own objects carry no lists of managers.
        let is_owned = before.is_some() && new.meta().managed_fields.as_ref().is_some_and(|all| !all.is_empty());
        let cluster = || (options.as_cluster && is_owned).then(|| of_the_cluster(kind.info(), part));
        let Some(writer) = options.writer.clone().or_else(cluster) else { return Ok(()) };
        let unreadable = |err: serde_json::Error| ApiError::Internal(format!("an object cannot be read: {err}"));
        let read = |json: &[u8]| serde_json::from_slice::<Value>(json).map_err(unreadable);
        let before = match before {
            Some(entry) => read(&kind.served_bytes(&entry.value).map_err(unreadable)?)?,
            None => Value::Null,
        };
        let after = read(&new.to_json())?;
        let managers = new.meta().managed_fields.clone().unwrap_or_default();
        let reach = Reach::of(kind, part == Part::Status);
        let now = Time(whole_seconds(self.0.clock.now()));
        let managers = managed::updated(kind.definition(), (&before, &after), &managers, &writer, reach, &now);
        new.meta_mut().managed_fields = (!managers.is_empty()).then_some(managers);
        Ok(())
    }

    /// Writes a changed object. When the change took away what held it back, it is removed instead: watchers see it go, and the caller
    /// gets what it would have become. `None`: another write came between.
    ///
    /// Source: `deleteWithoutFinalizers` of registry/store.go.
    async fn put_changed(
        &self,
        kind: &dyn ErasedKind,
        (entry, old): (&Arc<Entry>, &dyn DynObject),
        new: &mut dyn DynObject,
        options: &WriteOptions,
    ) -> Result<Option<Arc<Entry>>, ApiError> {
        let (value, attrs) = self.0.encoder.encode(kind, new);
        if Encoder::same(&value, entry) {
            return Ok(Some(Arc::clone(entry)));
        }
        check_size(&value)?;
        let key = entry.key.to_string();
        let unwritten = || {
            // What was not written has the revision of what is.
            let mut shown = new.clone_dyn();
            shown.meta_mut().resource_version = Some(entry.modified.to_string());
            Encoder::detached(kind, &*shown, &entry.key)
        };
        if metadata::may_go(new.meta()) && !kind.blocks_removal(new) {
            if options.dry_run {
                return Ok(Some(unwritten()));
            }
            let gone = self.commit_over(entry, Txn::default(), Write::Delete { key }).await?;
            return Ok(gone.map(|_| unwritten()));
        }
        let _turn = self.0.quota_turns.begin(self, kind.info(), new, false).await;
        let charges = quota::charge(self, kind.info(), Some(old), new)?;
        if options.dry_run {
            return Ok(Some(unwritten()));
        }
        let mut txn = Txn::default();
        self.pay(&mut txn, charges);
        Ok(self.commit_over(entry, txn, Write::Put { key, value, attrs }).await?.map(|c| written(&c)))
    }

    /// Commits a write over an entry as the last of a transaction. `None`: another write came between.
    async fn commit_over(&self, entry: &Entry, mut txn: Txn, write: Write) -> Result<Option<Committed>, ApiError> {
        txn.expect.push(Expect::Unchanged(entry.key.to_string(), entry.modified));
        txn.writes.push(write);
        Ok(self.commit(txn).await?.ok())
    }

    /// Commits a transaction while the fence holds, or says which key was not as expected: then it is worth another try.
    async fn commit(&self, mut txn: Txn) -> Result<Result<Committed, String>, ApiError> {
        #[cfg(any(test, feature = "testing"))]
        if self.1.is_cut.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(ApiError::Unavailable("the store cannot be reached".to_owned()));
        }
        txn.expect.extend(self.1.fence.as_ref().map(Fence::expectation));
        match self.0.store.commit(txn).await {
            Ok(committed) => Ok(Ok(committed)),
            Err(TxnError::Unexpected { key, found }) => {
                if let Some(fence) = self.1.fence.as_ref().filter(|fence| fence.is_at(&key)) {
                    fence.renew(found.as_ref())?;
                }
                Ok(Err(key))
            }
            Err(TxnError::Disk(why)) => Err(ApiError::Unavailable(why)),
        }
    }

    /// Deletes an object, or marks it for deletion when it has finalizers or a grace period.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when a precondition fails, `Forbidden`, `Unavailable`.
    pub async fn delete(
        &self,
        kind: &dyn ErasedKind,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let info = kind.info();
        admission::on_delete(info, key)?;
        let store_key = keys::key(info, key);
        for _ in 0..UPDATE_TRIES_MAX {
            let Some(entry) = self.0.store.get(&store_key) else {
                return Err(ApiError::not_found(info, &key.name));
            };
            let mut obj = kind.shared_dyn(&*shared(kind, &entry)).clone_dyn();
            metadata::check_preconditions(info, obj.meta(), options)?;
            let grace = grace_secs(kind, &*obj, options);
            let now = whole_seconds(self.0.clock.now());
            metadata::mark_deleted(obj.meta_mut(), options.propagation, grace, now);
            let goes = metadata::may_go(obj.meta()) && !kind.blocks_removal(&*obj);
            kind.on_marked(&mut *obj);
            if options.dry_run {
                let revision = entry.modified;
                return Ok(if goes { Deleted::Gone(entry, revision) } else { Deleted::Marked(entry) });
            }
            if let Some(deleted) = self.remove_or_mark(kind, &entry, &mut *obj, goes).await? {
                return Ok(deleted);
            }
        }
        Err(ApiError::modified(info, &key.name))
    }

    async fn remove_or_mark(
        &self,
        kind: &dyn ErasedKind,
        entry: &Arc<Entry>,
        obj: &mut dyn DynObject,
        goes: bool,
    ) -> Result<Option<Deleted>, ApiError> {
        if goes {
            let gone = self.commit_over(entry, Txn::default(), Write::Delete { key: entry.key.to_string() }).await?;
            return Ok(gone.map(|committed| Deleted::Gone(Arc::clone(entry), committed.revision)));
        }
        let (value, attrs) = self.0.encoder.encode(kind, obj);
        if Encoder::same(&value, entry) {
            return Ok(Some(Deleted::Marked(Arc::clone(entry))));
        }
        let marking = Write::Put { key: entry.key.to_string(), value, attrs };
        let marked = self.commit_over(entry, Txn::default(), marking).await?;
        Ok(marked.map(|c| Deleted::Marked(written(&c))))
    }
}

/// Refuses what etcd would refuse. What lies in the store already may always be marked and removed.
fn check_size(value: &NewValue) -> Result<(), ApiError> {
    let bytes = value.head.len() + value.tail.len();
    if bytes > STORED_BYTES_MAX {
        return Err(ApiError::ObjectTooLarge { bytes, max: STORED_BYTES_MAX });
    }
    Ok(())
}

fn check_create(kind: &dyn ErasedKind, obj: &dyn DynObject) -> Result<(), ApiError> {
    let mut causes = metadata::validate(kind, obj.meta());
    causes.extend(kind.validate(obj));
    causes.extend(kind.validate_create(obj));
    reject(kind.info(), obj, causes)
}

/// The last state that a transaction wrote.
fn written(committed: &Committed) -> Arc<Entry> {
    let last = committed.changes.iter().rev().find_map(|c| c.after.clone());
    last.expect("a write transaction has a put")
}

fn reject(
    info: &KindInfo<'_>,
    obj: &dyn DynObject,
    causes: Vec<crate::api::field::FieldError>,
) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    let meta = obj.meta();
    let name = meta.name.clone().filter(|n| !n.is_empty()).or_else(|| meta.generate_name.clone());
    Err(ApiError::invalid(info, &name.unwrap_or_default(), causes))
}

/// The grace period of a delete: the caller's, unless the kind has none or wants none now.
/// Source: `CheckGracefulDelete` of `pkg/registry/core/pod/strategy.go` and `rest.BeforeDelete`, v1.37.
fn grace_secs(kind: &dyn ErasedKind, obj: &dyn DynObject, options: &DeleteOptions) -> i64 {
    match kind.grace_period_secs(obj) {
        None | Some(0) => 0,
        Some(own) => match options.grace_period_secs.unwrap_or(own) {
            negative if negative < 0 => 1,
            wanted => wanted,
        },
    }
}

/// In whose name the cluster itself writes: as Kubernetes' parts call themselves, for tools that go by that.
fn of_the_cluster(info: &KindInfo<'_>, part: Part) -> Writer {
    let is_nodes = part == Part::Status && info.group.is_empty() && ["nodes", "pods"].contains(&info.plural);
    let subresource = match part {
        Part::Status => "status",
        Part::Facet(name) => name,
        Part::Main | Part::Allocated => "",
    };
    Writer {
        name: if is_nodes { "kubelet" } else { "kube-controller-manager" }.to_owned(),
        subresource: subresource.to_owned(),
        api_version: info.api_version(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            kind::Erased,
            kinds::{config_map::ConfigMaps, namespace::Namespaces, pod::Pods},
        },
        testing::registry,
    };
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};

    fn config_map(name: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({"metadata": {"name": name, "namespace": "default"}})).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_a_pods_status_may_annotate_it_and_change_nothing_else_of_its_metadata() {
        let api = registry().await.api::<Pods>();
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        let made = api.create(pod).await.unwrap();
        let key = ObjectKey::of(&made.metadata);
        let written = api.modify_status(&key, |pod| {
            pod.metadata.annotations.get_or_insert_default().insert("a".into(), "b".into());
            pod.metadata.labels.get_or_insert_default().insert("c".into(), "d".into());
            pod.metadata.finalizers = Some(vec!["example.com/hold".into()]);
        });
        let metadata = written.await.unwrap().metadata.clone();
        assert_eq!(metadata.annotations.unwrap()["a"], "b");
        assert_eq!((&metadata.labels, &metadata.finalizers), (&made.metadata.labels, &made.metadata.finalizers));
        let strange = api.modify_status(&key, |pod| {
            pod.metadata.annotations.get_or_insert_default().insert("not a name".into(), String::new());
        });
        assert!(strange.await.unwrap_err().to_string().contains("metadata.annotations"));
    }

    #[tokio::test]
    async fn an_object_is_created_read_changed_and_deleted() {
        let registry = registry().await;
        let api = registry.api::<ConfigMaps>();
        let made = api.create(config_map("a")).await.unwrap();
        assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
        let key = ObjectKey::of(&made.metadata);
        let changed = api
            .modify(&key, |c| {
                c.data.get_or_insert_default().insert("k".into(), "v".into());
            })
            .await
            .unwrap();
        assert_ne!(changed.metadata.resource_version, made.metadata.resource_version);
        let again = api.modify(&key, |_| {}).await.unwrap();
        assert_eq!(again.metadata.resource_version, changed.metadata.resource_version);
        assert_eq!(api.replace((*made).clone()).await.unwrap_err().code(), 409);
        api.delete(&key, &DeleteOptions::default()).await.unwrap();
        assert_eq!(api.get(&key), None);
        assert_eq!(api.delete(&key, &DeleteOptions::default()).await.unwrap_err().code(), 404);
    }

    #[tokio::test]
    async fn a_create_says_what_is_wrong() {
        let registry = registry().await;
        let api = registry.api::<ConfigMaps>();
        api.create(config_map("a")).await.unwrap();
        let err = api.create(config_map("a")).await.unwrap_err();
        assert_eq!(err.to_string(), "configmaps \"a\" already exists");
        let err = api.create(config_map("Not_A_Name")).await.unwrap_err();
        assert_eq!(err.code(), 422);
        let mut elsewhere = config_map("a");
        elsewhere.metadata.namespace = Some("nowhere".into());
        assert_eq!(api.create(elsewhere).await.unwrap_err().to_string(), "namespaces \"nowhere\" not found");
    }

    #[tokio::test]
    async fn a_finalizer_holds_an_object_until_it_is_taken_away() {
        let registry = registry().await;
        let api = registry.api::<ConfigMaps>();
        let mut held = config_map("a");
        held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
        let key = ObjectKey::of(&held.metadata);
        api.create(held).await.unwrap();
        api.delete(&key, &DeleteOptions::default()).await.unwrap();
        assert!(api.get(&key).unwrap().metadata.deletion_timestamp.is_some());
        let err = api.create(config_map("a")).await.unwrap_err();
        assert_eq!(err.to_string(), "object is being deleted: configmaps \"a\" already exists");
        let mut watch = registry.watch_kind(&Erased::<ConfigMaps>::NEW, registry.store().revision()).unwrap();
        let last = api.modify(&key, |c| c.metadata.finalizers = None).await.unwrap();
        assert_eq!((api.get(&key), &last.metadata.finalizers), (None, &None));
        let change = watch.next().await.unwrap();
        assert!(change.before.is_some() && change.after.is_none(), "{change:?}");
        assert_eq!(watch.try_next().unwrap().map(|change| change.revision), None);
    }

    #[tokio::test]
    async fn revision_zero_is_no_condition() {
        let registry = registry().await;
        let api = registry.api::<ConfigMaps>();
        let made = api.create(config_map("a")).await.unwrap();
        let mut next = (*made).clone();
        next.metadata.resource_version = Some("0".into());
        next.data = Some([("k".to_owned(), "v".to_owned())].into());
        assert!(api.replace(next).await.is_ok());
        let key = ObjectKey::of(&made.metadata);
        let patched = api.modify(&key, |c| c.metadata.resource_version = Some("0".into())).await.unwrap();
        assert_ne!(patched.metadata.resource_version.as_deref(), Some("0"));
    }

    #[tokio::test]
    async fn a_scheduled_pod_goes_with_grace_and_then_for_good() {
        let registry = registry().await;
        let api = registry.api::<Pods>();
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"generateName": "web-", "namespace": "default"},
            "spec": {"nodeName": "skiff", "containers": [{"name": "c", "image": "i"}]},
        }))
        .unwrap();
        let made = api.create(pod).await.unwrap();
        let key = ObjectKey::of(&made.metadata);
        assert!(key.name.starts_with("web-") && key.name.len() == 9);
        api.delete(&key, &DeleteOptions::default()).await.unwrap();
        let marked = api.get(&key).unwrap();
        assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
        let now = DeleteOptions { grace_period_secs: Some(0), uid: marked.metadata.uid.clone(), ..Default::default() };
        api.delete(&key, &now).await.unwrap();
        assert_eq!(api.get(&key), None);
    }

    #[tokio::test]
    async fn a_namespace_goes_when_it_is_finalized_and_takes_nothing_new_meanwhile() {
        let registry = registry().await;
        let api = registry.api::<Namespaces>();
        let team: Namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": "team"}})).unwrap();
        api.create(team).await.unwrap();
        let key = ObjectKey::new("", "team");
        api.delete(&key, &DeleteOptions::default()).await.unwrap();
        let marked = api.get(&key).unwrap();
        assert_eq!(marked.status.as_ref().unwrap().phase.as_deref(), Some("Terminating"));
        let mut late = config_map("late");
        late.metadata.namespace = Some("team".into());
        assert_eq!(registry.api::<ConfigMaps>().create(late).await.unwrap_err().code(), 403);
        api.modify(&key, |n| n.spec.get_or_insert_default().finalizers = None).await.unwrap();
        assert_eq!(api.get(&key), None);
        let kept = api.delete(&ObjectKey::new("", "default"), &DeleteOptions::default()).await.unwrap_err();
        assert_eq!(kept.to_string(), "namespaces \"default\" is forbidden: this namespace may not be deleted");
    }

    #[tokio::test]
    async fn state_reads_back_from_what_was_stored() {
        let registry = registry().await;
        let made = registry.api::<ConfigMaps>().create(config_map("a")).await.unwrap();
        let entry = registry.store().get("core/configmaps/default/a").unwrap();
        let value: Value = serde_json::from_slice(&entry.value).unwrap();
        assert_eq!(value["metadata"]["resourceVersion"].as_str(), made.metadata.resource_version.as_deref());
        assert_eq!(value["kind"], "ConfigMap");
    }
}
