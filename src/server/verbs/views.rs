//! Objects that are answered and never stored, printed, selected and listed as stored ones are.

use super::{Call, read};
use crate::{
    api::{
        kind::KindRef,
        meta::{ObjectKey, Revision},
        schema,
        status::ApiError,
    },
    server::{media::Offer, options, print::ListMeta, respond::Response},
    store::{Attrs, Entry},
};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// A view as if it were stored.
pub(super) fn entry(kind: &KindRef, mut view: Value) -> Result<Arc<Entry>, ApiError> {
    schema::normalize(kind.definition(), &mut view);
    let obj = kind.decode(view).map_err(|err| ApiError::Internal(format!("a view cannot be made: {err}")))?;
    let (info, meta) = (kind.info(), obj.meta());
    let key = ObjectKey::of(meta);
    let modified = meta.resource_version.as_deref().and_then(|revision| revision.parse().ok()).unwrap_or_default();
    let fields = [("metadata.name", key.name.clone()), ("metadata.namespace", key.namespace.clone())];
    let attrs = Attrs {
        labels: meta.labels.iter().flatten().collect(),
        fields: fields.into_iter().collect(),
        terms: Vec::new(),
    };
    Ok(Arc::new(Entry {
        key: format!("{}/{}/{key}", info.group, info.plural).into(),
        value: obj.to_json().into(),
        revision_at: 0..0,
        attrs: Arc::new(attrs),
        created: Default::default(),
        modified: Revision(modified),
        decoded: OnceLock::new(),
        packed: OnceLock::new(),
    }))
}

/// One view as the answer.
pub(super) fn single(call: &Call<'_>, code: u16, view: Value) -> Result<Response, ApiError> {
    call.object(code, &*entry(&call.kind, view)?)
}

/// The views that the query picks as the answer, in one piece.
pub(super) fn list(call: &Call<'_>, views: Vec<Value>) -> Result<Response, ApiError> {
    let output = call.output(Offer::Lists)?;
    let options = options::list_options(&*call.kind, call.query())?;
    let mut entries = views.into_iter().map(|view| entry(&call.kind, view)).collect::<Result<Vec<_>, _>>()?;
    entries.retain(|entry| options.selection.matches(entry));
    let meta = ListMeta { revision: call.registry().store().revision().to_string(), ..ListMeta::default() };
    read::write_list(call.printer(output)?, output, entries, &meta)
}
