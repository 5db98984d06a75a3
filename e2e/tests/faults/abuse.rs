//! One tenant attacks the system; another notices only that the machine is busy.

use e2e::abuse::{Size, run_attacks};

#[tokio::test(flavor = "multi_thread")]
async fn attacks_of_one_tenant_restart_nothing_and_leave_the_others_served() {
    let report = run_attacks(Size::Small, "").await;
    println!("{report}");
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    for outcome in &report.outcomes {
        let times = &outcome.times;
        let asked = [times.commits.len(), times.reads.len(), times.admission.len()];
        assert!(
            asked.iter().all(|count| *count > 0),
            "{}: the neighbour was asked {asked:?}",
            outcome.attack
        );
    }
}
