//! What a resource is on each distribution.

use super::{Draft, Place, Resource};
use crate::distribution::Distribution;
use crate::fact::{Facts, Query};

impl Resource {
    /// Lists what must be looked at on each node in scope; `None` where it is not available on this
    /// distribution.
    pub fn queries(&self, on: Distribution) -> Option<Vec<Query>> {
        let kind = self.kind.behaviour();
        match on.layout() {
            None => Some(kind.queries()),
            Some(layout) => kind.queries_on_k3s(layout),
        }
    }

    /// Compares with the facts of a cluster of this distribution and drafts what to change. What is not
    /// available there is an error of the draft, never ignored.
    pub fn diff(&self, on: Distribution, facts: &Facts, draft: &mut Draft) {
        let kind = self.kind.behaviour();
        let Some(layout) = on.layout() else {
            kind.diff(self, facts, draft);
            return;
        };
        if kind.queries_on_k3s(layout).is_some() {
            kind.diff_on_k3s(layout, self, facts, draft);
            return;
        }
        draft.error(
            self,
            Place::Api,
            format!(
                "it is not available on {}: where it lives is known for kubeadm only",
                layout.name
            ),
            "leave the options behind it unset for this cluster, and name in `unset` those that an import sets; \
             `harden eval --why OPTION` tells where one comes from",
        );
    }
}
