//! The facts of an added kind, which own the names that they point to.

#![allow(clippy::mem_forget, reason = "the macro's own code, which hands over what it has built")]

use super::Naming;
use crate::api::kind::{ALL_VERBS, KindInfo, PLAIN_COLUMNS, STATUS, Subresource};

struct Named {
    naming: Naming,
    definition: String,
}

/// Lists that point into [`Named`].
struct Lists<'a> {
    short_names: Vec<&'a str>,
    categories: Vec<&'a str>,
    subresources: Vec<Subresource<'a>>,
}

self_cell::self_cell!(
    struct Listed {
        owner: Named,
        #[covariant]
        dependent: Lists,
    }
);

self_cell::self_cell!(
    struct InfoCell {
        owner: Listed,
        #[covariant]
        dependent: KindInfo,
    }
);

/// See the module.
pub(super) struct OwnedInfo(InfoCell);

impl OwnedInfo {
    /// The facts of a kind with this name, whose definition is called so.
    pub(super) fn new(naming: Naming, definition: String) -> Self {
        let listed = Listed::new(Named { naming, definition }, |named| Lists {
            short_names: named.naming.short_names.iter().map(String::as_str).collect(),
            categories: named.naming.categories.iter().map(String::as_str).collect(),
            subresources: if named.naming.has_status { vec![STATUS] } else { Vec::new() },
        });
        Self(InfoCell::new(listed, |listed| {
            let (Named { naming, definition }, lists) = (listed.borrow_owner(), listed.borrow_dependent());
            KindInfo {
                group: &naming.group,
                version: &naming.version,
                kind: &naming.kind,
                plural: &naming.plural,
                singular: &naming.singular,
                short_names: &lists.short_names,
                categories: &lists.categories,
                scope: naming.scope,
                verbs: ALL_VERBS,
                subresources: &lists.subresources,
                columns: PLAIN_COLUMNS,
                stored_as: None,
                schema: definition,
            }
        }))
    }

    /// The facts.
    pub(super) fn get(&self) -> &KindInfo<'_> {
        self.0.borrow_dependent()
    }
}
