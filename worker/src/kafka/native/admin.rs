//! Admin requests to the brokers.

use std::ffi::{CString, c_char};
use std::ptr::null_mut;
use std::time::Duration;

use domain::Isolation;
use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_IsolationLevel_t as Level;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::{Owned, text};

/// Name of a topic, with its id in base64 and the numbers of its partitions, or the error.
pub type Described = (String, Result<(String, Vec<i32>), RDKafkaErrorCode>);

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionEnd {
    /// The first record that is kept.
    First,
    /// After the last record that can be read.
    Last,
}

/// Asks for ids and partitions of topics. Blocks for at most twice `timeout` and a little.
pub fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<Vec<Described>, RDKafkaErrorCode> {
    let Some(first) = topics.first() else { return Ok(Vec::new()) };
    // Any broker can answer. By default librdkafka asks the controller, which may be down while the others work.
    let metadata = client.fetch_metadata(Some(first), timeout).map_err(|error| code(&error))?;
    let known = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id);
    let asked = Some(metadata.orig_broker_id()).filter(|id| *id >= 0).into_iter().chain(known).next();
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: `names` lives while the collection is made, which copies them; the result is read while its event lives.
    unsafe {
        let collection = Owned::new(
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        let event = ask(client, operation, timeout, |options, queue| {
            if let Some(id) = asked {
                sys::rd_kafka_AdminOptions_set_broker(options, id, null_mut(), 0);
            }
            sys::rd_kafka_DescribeTopics(client.native_ptr(), collection.ptr(), options, queue);
        })?;
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.ptr());
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        Ok(items(topics, count).map(|topic| described(topic)).collect())
    }
}

fn code(error: &rdkafka::error::KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}

/// # Safety
/// `topic` must be borrowed from a living event.
unsafe fn described(topic: *const sys::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: the caller's promise; all that is read belongs to the same event.
    unsafe {
        let name = text(sys::rd_kafka_TopicDescription_name(topic));
        let code = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return (name, Err(code.into()));
        }
        let id = text(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic)));
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let mut numbers: Vec<i32> =
            items(partitions, count).map(|info| sys::rd_kafka_TopicPartitionInfo_partition(info)).collect();
        numbers.sort_unstable();
        (name, Ok((id, numbers)))
    }
}

/// Asks where partitions begin or end, with one request to each leader. Leaves out partitions without an answer. Blocks for
/// at most `timeout` and a little.
pub fn partition_ends<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(String, i32)],
    end: PartitionEnd,
    isolation: Isolation,
    timeout: Duration,
) -> Result<Vec<(String, i32, i64)>, RDKafkaErrorCode> {
    let spec = match end {
        PartitionEnd::First => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
        PartitionEnd::Last => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
    } as i64;
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    // SAFETY: the list copies the names and is owned until the call has copied it; the result is read while its event lives.
    unsafe {
        let list = Owned::new(
            sys::rd_kafka_topic_partition_list_new(partitions.len() as i32),
            sys::rd_kafka_topic_partition_list_destroy,
        )?;
        for (topic, partition) in partitions {
            let name = CString::new(topic.as_str()).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
            let element = sys::rd_kafka_topic_partition_list_add(list.ptr(), name.as_ptr(), *partition);
            (*element).offset = spec;
        }
        let event = ask(client, operation, timeout, |options, queue| {
            let level = match isolation {
                Isolation::ReadCommitted => Level::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                Isolation::ReadUncommitted => Level::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            };
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sys::rd_kafka_ListOffsets(client.native_ptr(), list.ptr(), options, queue);
        })?;
        let mut count = 0;
        let result = sys::rd_kafka_event_ListOffsets_result(event.ptr());
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        Ok(items(infos, count)
            .map(|info| &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(info))
            .filter(|answer| answer.err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && answer.offset >= 0)
            .map(|answer| (text(answer.topic), answer.partition, answer.offset))
            .collect())
    }
}

/// Makes an admin request and waits for its answer.
///
/// # Safety
/// `send` must only hand its arguments to the admin function of `operation`, which copies the options.
unsafe fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Owned<sys::rd_kafka_event_t>, RDKafkaErrorCode> {
    let wait = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives through the call; options, queue and event are owned here.
    unsafe {
        let rk = client.native_ptr();
        let options =
            Owned::new(sys::rd_kafka_AdminOptions_new(rk, operation), sys::rd_kafka_AdminOptions_destroy)?;
        // Fails only for a timeout out of range, and then the default holds.
        sys::rd_kafka_AdminOptions_set_request_timeout(options.ptr(), wait, null_mut(), 0);
        let queue = Owned::new(sys::rd_kafka_queue_new(rk), sys::rd_kafka_queue_destroy)?;
        send(options.ptr(), queue.ptr());
        let event = Owned::new(
            sys::rd_kafka_queue_poll(queue.ptr(), wait.saturating_add(1_000)),
            sys::rd_kafka_event_destroy,
        )
        .map_err(|_| RDKafkaErrorCode::OperationTimedOut)?;
        match sys::rd_kafka_event_error(event.ptr()) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
            code => Err(code.into()),
        }
    }
}

/// # Safety
/// `array` must hold `count` elements, or be null with `count` 0, for as long as the iterator is used.
unsafe fn items<T>(array: *mut *const T, count: usize) -> impl Iterator<Item = *const T> {
    // SAFETY: the caller's promise.
    (0..if array.is_null() { 0 } else { count }).map(move |at| unsafe { *array.add(at) })
}
