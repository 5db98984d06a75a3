//! Bad input: whatever a user writes or a record holds, the user sees what is wrong and what to do, and everything else goes on.
//!
//! Each case has a golden output: of `kubectl get` and `kubectl describe`, of a refusal by `kubectl apply`, or of what the receiver or
//! the caller got. These tests show what the owner of a secret sees; `tests/faults/quiet.rs` checks that the secret's value is nowhere in
//! sight.

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

/// Applies a manifest that must be refused with a message that contains all of `says`. Manifest and refusal are compared with the golden
/// file.
async fn assert_refused(tenant: &Tenant, file: &str, manifest: &str, says: &[&str]) {
    let manifest = manifest.trim().trim_end_matches("---").trim();
    let refusal = match tenant.try_apply(manifest).await {
        Ok(applied) => panic!("{file} was accepted: {applied}\n{manifest}"),
        Err(refusal) => refusal,
    };
    for words in says {
        assert!(refusal.contains(words), "{file} does not say {words:?}: {refusal}");
    }
    golden::assert_same(file, &format!("$ kubectl apply -f - <<EOF\n{manifest}\nEOF\n{refusal}"));
}

/// The manifest of a channel whose `spec` is these lines.
fn channel(name: &str, spec: &str) -> String {
    object("NotificationChannel", name, spec)
}

/// The manifest of an object of any kind whose `spec` is these lines.
fn object(kind: &str, name: &str, spec: &str) -> String {
    let spec = spec.trim_end().replace('\n', "\n  ");
    format!(
        "apiVersion: belfry.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: $NS}}\nspec:\n  {spec}\n---\n"
    )
}
