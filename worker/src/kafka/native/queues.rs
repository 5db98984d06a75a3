//! The two queues of a consumer: one of its events, one of its records, which are taken many at a time.

use std::ffi::{CStr, CString, c_void};
use std::ops::ControlFlow;
use std::ptr::null_mut;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use super::{Owned, text};

/// What a client tells besides records.
pub enum ClientEvent {
    /// The group assigns (`true`) or revokes (`false`) these partitions.
    Rebalance(bool, Vec<(String, i32)>),
    /// A line of the log: syslog level, facility, text.
    Log(i32, String, String),
    /// The client wants a token: [`set_token`](super::set_token).
    Token,
    /// Something failed: code, whether it is fatal, and librdkafka's text.
    Error(RDKafkaErrorCode, bool, String),
}

/// What is fetched from a partition, in its order.
pub enum Fetched<'m> {
    /// A record.
    Record(FetchedRecord<'m>),
    /// All records of (topic, partition) before the offset have come.
    End(&'m str, i32, i64),
    /// The topic can't be read: code and librdkafka's text.
    Error(&'m str, RDKafkaErrorCode, String),
}

/// The queue of a consumer's events. Must be dropped before its client.
pub struct EventQueue(Owned<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for EventQueue {}

/// The queue of the records of all partitions that [`RecordQueue::receive`] named. Must be dropped before its client.
pub struct RecordQueue(Owned<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for RecordQueue {}

/// A record, in librdkafka's memory.
pub struct FetchedRecord<'m>(&'m sys::rd_kafka_message_t);

impl EventQueue {
    /// The event queue of this consumer.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Result<Self, RDKafkaErrorCode> {
        // SAFETY: the client lives, and the reference that this makes is freed by the guard.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) };
        Owned::new(queue, sys::rd_kafka_queue_destroy).map(Self)
    }

    /// The next event, without waiting.
    pub fn next(&self) -> Option<ClientEvent> {
        loop {
            // SAFETY: the queue is ours; all that is read of the event is copied.
            unsafe {
                let event =
                    Owned::new(sys::rd_kafka_queue_poll(self.0.ptr(), 0), sys::rd_kafka_event_destroy)
                        .ok()?;
                let code = sys::rd_kafka_event_error(event.ptr());
                return Some(match sys::rd_kafka_event_type(event.ptr()) {
                    sys::RD_KAFKA_EVENT_REBALANCE => {
                        let given = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
                        ClientEvent::Rebalance(
                            given,
                            partitions(sys::rd_kafka_event_topic_partition_list(event.ptr())),
                        )
                    }
                    sys::RD_KAFKA_EVENT_ERROR => {
                        let fatal = sys::rd_kafka_event_error_is_fatal(event.ptr()) != 0;
                        ClientEvent::Error(
                            code.into(),
                            fatal,
                            text(sys::rd_kafka_event_error_string(event.ptr())),
                        )
                    }
                    sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => ClientEvent::Token,
                    sys::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 7);
                        sys::rd_kafka_event_log(
                            event.ptr(),
                            &raw mut facility,
                            &raw mut line,
                            &raw mut level,
                        );
                        ClientEvent::Log(level, text(facility), text(line))
                    }
                    sys::RD_KAFKA_EVENT_FETCH => {
                        // Fatal, since this record would be lost without a trace.
                        let why = "a record came of a partition that is not received".to_owned();
                        ClientEvent::Error(RDKafkaErrorCode::Fail, true, why)
                    }
                    _ => continue,
                });
            }
        }
    }
}

impl RecordQueue {
    /// A queue for records of this client.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Result<Self, RDKafkaErrorCode> {
        // SAFETY: the client lives, and the queue that this makes is freed by the guard.
        let queue = unsafe { sys::rd_kafka_queue_new(client.native_ptr()) };
        Owned::new(queue, sys::rd_kafka_queue_destroy).map(Self)
    }

    /// Sends the records of this partition, waiting ones and later ones, to this queue until the client stops reading it.
    pub fn receive<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
        partition: i32,
    ) -> Result<(), RDKafkaErrorCode> {
        let topic = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client lives, the name is copied, and librdkafka counts who refers to a queue.
        unsafe {
            let queue = Owned::new(
                sys::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition),
                sys::rd_kafka_queue_destroy,
            )?;
            sys::rd_kafka_queue_forward(queue.ptr(), self.0.ptr());
        }
        Ok(())
    }

    /// Waits for records, and hands them to `handle` until that says stop or the queue is empty.
    ///
    /// librdkafka locks and reads the clock once for all of them; asked for single records it does so twice for each. A panic
    /// in `handle` ends the process, since it can't unwind through C.
    pub fn take<C: ClientContext, F>(&self, client: &Client<C>, timeout: Duration, handle: F)
    where
        F: FnMut(Fetched<'_>) -> ControlFlow<()>,
    {
        let wait = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut taking = TakeState { client: client.native_ptr(), handle };
        let opaque = (&raw mut taking).cast();
        // SAFETY: `handle_message` is called by this thread before the call returns, with `taking`, which nothing else touches.
        unsafe {
            sys::rd_kafka_consume_callback_queue(self.0.ptr(), wait, Some(handle_message::<F>), opaque)
        };
    }
}

struct TakeState<F> {
    client: *mut sys::rd_kafka_t,
    handle: F,
}

/// # Safety
/// `message` must live through the call, and `opaque` be a [`TakeState`] of this `F` that nothing else uses meanwhile.
unsafe extern "C" fn handle_message<F>(message: *mut sys::rd_kafka_message_t, opaque: *mut c_void)
where
    F: FnMut(Fetched<'_>) -> ControlFlow<()>,
{
    // SAFETY: the caller's promise. What is handed over is borrowed for less than the call.
    unsafe {
        let (message, taking) = (&*message, &mut *opaque.cast::<TakeState<F>>());
        let record = FetchedRecord(message);
        let fetched = match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Fetched::Record(record),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Fetched::End(record.topic(), record.partition(), record.offset())
            }
            code => Fetched::Error(record.topic(), code.into(), text(sys::rd_kafka_message_errstr(message))),
        };
        if (taking.handle)(fetched).is_break() {
            sys::rd_kafka_yield(taking.client);
        }
    }
}

impl<'m> FetchedRecord<'m> {
    /// Topic name.
    pub fn topic(&self) -> &'m str {
        // SAFETY: the name lives as long as the topic, which the message holds.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) };
        // Kafka allows only ASCII.
        name.to_str().unwrap_or_default()
    }

    /// Partition number.
    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Offset in the partition.
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    /// Its timestamp, Unix ms; `None` if it has none.
    pub fn timestamp(&self) -> Option<i64> {
        self.stamp().map(|(time, _)| time)
    }

    /// Its timestamp, Unix ms, and whether the broker set it (`LogAppendTime`) and not the producer.
    pub fn stamp(&self) -> Option<(i64, bool)> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, and so does `kind`.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        let is_brokers = kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
        (time >= 0).then_some((time, is_brokers))
    }

    /// Its key.
    pub fn key(&self) -> Option<&'m [u8]> {
        // SAFETY: librdkafka's buffer of that length, which the message holds.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Its value; `None` for a tombstone.
    pub fn value(&self) -> Option<&'m [u8]> {
        // SAFETY: librdkafka's buffer of that length, which the message holds.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Its headers; those whose name is not UTF-8 are left out.
    pub fn headers(&self) -> Vec<(&'m str, Option<&'m [u8]>)> {
        let mut found = Vec::new();
        let mut headers = null_mut();
        // SAFETY: the headers belong to the message, and so do names and values.
        unsafe {
            if sys::rd_kafka_message_headers(self.0, &raw mut headers)
                != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return found;
            }
            for at in 0.. {
                let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
                if sys::rd_kafka_header_get_all(headers, at, &raw mut name, &raw mut value, &raw mut size)
                    != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
                {
                    break;
                }
                if let Ok(name) = CStr::from_ptr(name).to_str() {
                    found.push((name, bytes(value, size)));
                }
            }
        }
        found
    }
}

/// # Safety
/// `list` must be null or live through the call.
unsafe fn partitions(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(String, i32)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise; the list has `cnt` elements.
    unsafe {
        (0..usize::try_from((*list).cnt).unwrap_or(0))
            .map(|at| &*(*list).elems.add(at))
            .map(|place| (text(place.topic), place.partition))
            .collect()
    }
}

/// # Safety
/// `pointer` must be null or have `length` bytes for as long as the slice is used.
unsafe fn bytes<'b>(pointer: *const c_void, length: usize) -> Option<&'b [u8]> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}
