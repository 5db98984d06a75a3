//! Admission refuses a channel's template for a name that no message has. Its list must hold every name that messages have.

use std::collections::BTreeSet;

use domain::Notification;
use templates::names::Names;

use crate::{Composer, fixtures};

fn seen(notification: &Notification) -> BTreeSet<String> {
    Composer::data(notification).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn admission_lets_through_each_name_that_some_message_has() {
    let names = Names::for_channel();
    for (_, notification) in fixtures::all() {
        for name in seen(&notification) {
            assert!(names.has(&name), "{name} is not in templates::names");
        }
    }
}
