//! The cluster accepts the examples of the documents as they are.

use e2e::tenant::Tenant;

const PAGES: [(&str, &str); 6] = [
    ("notificationchannel.md", include_str!("../../../docs/notificationchannel.md")),
    ("alertrule.md", include_str!("../../../docs/alertrule.md")),
    ("coming-from-elastalert.md", include_str!("../../../docs/coming-from-elastalert.md")),
    ("coming-from-prometheus.md", include_str!("../../../docs/coming-from-prometheus.md")),
    ("schedule.md", include_str!("../../../docs/schedule.md")),
    ("icalendar.md", include_str!("../../../docs/icalendar.md")),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_spec_pages_is_accepted_and_none_is_stalled() {
    let tenant = Tenant::new("t-docs").await;
    for (page, text) in PAGES {
        let examples: Vec<&str> =
            text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!examples.is_empty(), "{page} has examples");
        for example in examples {
            let applied = e2e::cluster::run_command(
                "kubectl",
                &["-n", &tenant.ns, "apply", "-o", "name", "-f", "-"],
                example,
            )
            .await;
            let names = applied.unwrap_or_else(|error| panic!("{page}: {error}\n{example}"));
            for what in names.lines() {
                e2e::cluster::eventually(
                    &format!("{page}: {what} is seen"),
                    std::time::Duration::from_secs(30),
                    async || {
                        let object = tenant.get(what).await.ok_or("not there")?;
                        let seen = object["status"]["observedGeneration"] == object["metadata"]["generation"];
                        if seen { Ok(()) } else { Err(object["status"].to_string()) }
                    },
                )
                .await;
                let object = tenant.get(what).await.expect("it was applied");
                assert!(
                    e2e::cluster::condition(&object, "Stalled").is_none(),
                    "{page}: {}",
                    object["status"]
                );
            }
        }
    }
    tenant.leave().await;
}
