//! Bad input: whatever a user writes or a record holds, they see what is wrong and what to do, and the rest goes on.
//!
//! For each row there is a golden output of `kubectl get` and `kubectl describe`, of a refusal by `kubectl apply`, or of what
//! the receiver or the caller got. That a secret's value is nowhere in sight is looked for in `tests/faults/quiet.rs`; here
//! is what its owner sees.

mod addresses;
mod compile;
mod records;
mod references;
mod schema;
mod secrets;
mod sources;
mod texts;
mod times;
mod tokens;

use e2e::tenant::Tenant;

use crate::golden;

/// Applies a manifest that must be refused. Input and refusal are golden; the refusal says all of `says`.
async fn refused(tenant: &Tenant, file: &str, manifest: &str, says: &[&str]) {
    let manifest = manifest.trim().trim_end_matches("---").trim();
    let refusal = match tenant.try_apply(manifest).await {
        Ok(applied) => panic!("{file} was accepted: {applied}\n{manifest}"),
        Err(refusal) => refusal,
    };
    for words in says {
        assert!(refusal.contains(words), "{file} does not say {words:?}: {refusal}");
    }
    golden::same(file, &format!("$ kubectl apply -f - <<EOF\n{manifest}\nEOF\n{refusal}"));
}

/// A channel of this name whose `spec` is these lines.
fn channel(name: &str, spec: &str) -> String {
    object("NotificationChannel", name, spec)
}

/// An object of this kind and name whose `spec` is these lines.
fn object(kind: &str, name: &str, spec: &str) -> String {
    let spec = spec.trim_end().replace('\n', "\n  ");
    format!(
        "apiVersion: belfry.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: $NS}}\nspec:\n  {spec}\n---\n"
    )
}
