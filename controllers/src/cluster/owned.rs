//! Decides whose an object is. Only owner references say so, by uid; names and labels can be anybody's. It makes no
//! request.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const GROUP: &str = "belfry.dev/";

/// The uids of our objects of one namespace, for which children are made.
pub type Owners = HashSet<String>;

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// One of our objects owns it: the operator made it, in this or an earlier release.
    Ours,
    /// One of our objects owned it and is gone. Kubernetes collects it.
    Left,
    /// It is somebody else's, even with our labels.
    Foreign,
}

/// Whose an object is, given the uids of our objects of its namespace.
pub fn whose(meta: &ObjectMeta, owners: &Owners) -> Whose {
    let mut left = Whose::Foreign;
    for owner in meta.owner_references.iter().flatten().filter(|owner| owner.api_version.starts_with(GROUP)) {
        if owners.contains(&owner.uid) {
            return Whose::Ours;
        }
        left = Whose::Left;
    }
    left
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_object_is_ours_by_the_uid_of_an_owner_and_by_nothing_else() {
        let owners = Owners::from(["u1".to_owned()]);
        let of = |references: Value| {
            let labels =
                json!({"app.kubernetes.io/managed-by": "belfry", "app.kubernetes.io/component": "send"});
            let meta = json!({"name": "belfry-send", "namespace": "a", "labels": labels, "ownerReferences": references});
            whose(&serde_json::from_value(meta).unwrap(), &owners)
        };
        let owner = |api: &str, uid: &str| json!({"apiVersion": api, "kind": "NotificationChannel", "name": "a", "uid": uid});
        assert_eq!(of(json!(null)), Whose::Foreign);
        assert_eq!(of(json!([owner("belfry.dev/v1alpha1", "u1")])), Whose::Ours);
        assert_eq!(
            of(json!([owner("belfry.dev/v1", "u1")])),
            Whose::Ours,
            "an earlier or later version of the kind"
        );
        assert_eq!(of(json!([owner("belfry.dev/v1alpha1", "u2")])), Whose::Left);
        assert_eq!(of(json!([owner("apps/v1", "u1")])), Whose::Foreign, "another kind of that uid");
        assert_eq!(of(json!([owner("belfry.development/v1", "u1")])), Whose::Foreign);
        let both = json!([owner("belfry.dev/v1alpha1", "u2"), owner("belfry.dev/v1alpha1", "u1")]);
        assert_eq!(of(both), Whose::Ours);
    }
}
