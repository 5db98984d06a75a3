//! The rights that the operator needs. The chart grants exactly these, and a test of the chart compares.
//!
//! There are no wildcards, no Secrets, and none of escalate, bind and impersonate.

/// One rule of a Role or ClusterRole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
}

/// In every watched namespace: a ClusterRole, or a Role in each where `--watch-namespaces` is set.
pub const WATCHED: &[PolicyRule] = &[
    PolicyRule {
        group: "belfry.dev",
        resources: &["notificationchannels", "alertrules", "schedules", "bookableresources"],
        verbs: &["get", "list", "watch"],
    },
    // Server-side apply of the status alone.
    PolicyRule {
        group: "belfry.dev",
        resources: &[
            "notificationchannels/status",
            "alertrules/status",
            "schedules/status",
            "bookableresources/status",
        ],
        verbs: &["patch"],
    },
    // Server-side apply needs create as well as patch where the object does not exist yet. Get: whose is what has the name?
    PolicyRule {
        group: "apps",
        resources: &["deployments"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    PolicyRule {
        group: "batch",
        resources: &["cronjobs"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    PolicyRule { group: "batch", resources: &["jobs"], verbs: &["get", "create"] },
    PolicyRule {
        group: "",
        resources: &["serviceaccounts"],
        verbs: &["get", "list", "watch", "create", "patch"],
    },
    PolicyRule { group: "events.k8s.io", resources: &["events"], verbs: &["create"] },
];

/// Of what belongs to no namespace, by name: the webhook's configuration, which has to trust our certificates.
pub const CLUSTER: &[PolicyRule] = &[PolicyRule {
    group: "admissionregistration.k8s.io",
    resources: &["validatingwebhookconfigurations"],
    verbs: &["get", "patch"],
}];

/// In the operator's own namespace: leader election, and by name the one Secret that holds its certificates and the one
/// ConfigMap that tells people the authority.
pub const OWN: &[PolicyRule] = &[
    PolicyRule {
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "create", "update", "patch"],
    },
    PolicyRule { group: "", resources: &["secrets"], verbs: &["get", "update"] },
    PolicyRule { group: "", resources: &["configmaps"], verbs: &["get", "patch"] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_has_a_wildcard_or_reaches_a_tenants_secrets() {
        for rule in WATCHED.iter().chain(CLUSTER).chain(OWN) {
            let words = rule.resources.iter().chain(rule.verbs).chain([&rule.group]);
            assert!(words.into_iter().all(|word| !word.contains('*')), "{rule:?}");
            for verb in ["escalate", "bind", "impersonate"] {
                assert!(!rule.verbs.contains(&verb), "{rule:?}");
            }
        }
        assert!(WATCHED.iter().all(|rule| !rule.resources.contains(&"secrets")));
    }
}
