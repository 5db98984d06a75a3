//! What the `rdkafka` crate has no words for: topic ids, the ends of many partitions in one call, and where a partition
//! ends when all of it has been read (transaction markers at its end are no records, so no record tells).
//!
//! The only unsafe code of the worker. Invariants: every pointer comes from librdkafka and is owned by a guard that
//! frees it once, or is borrowed from an event that outlives the use; strings are copied. Never here: a decision.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::ControlFlow;
use std::ptr::{NonNull, null_mut};
use std::time::Duration;

use domain::Isolation;
use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_IsolationLevel_t as Level;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

/// What the broker says of a topic: its id in base64 and the numbers of its partitions; or why not.
pub type Described = (String, Result<(String, Vec<i32>), RDKafkaErrorCode>);

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first record that is kept.
    First,
    /// After the last record that can be read.
    Last,
}

/// What a client tells, beside records.
pub enum Event {
    /// The group gives (or else takes) these partitions.
    Shared(bool, Vec<(String, i32)>),
    /// A line for the log, with syslog's level.
    Log(i32, String, String),
    /// The client wants a token: [`show_token`].
    Token,
    /// Something failed; for good, if so; in librdkafka's words.
    Error(RDKafkaErrorCode, bool, String),
}

/// What comes of a partition, in its order.
pub enum Fetched<'m> {
    /// A record.
    Record(Record<'m>),
    /// All records of (topic, partition) before the offset have come.
    End(&'m str, i32, i64),
    /// It can't be read, in librdkafka's words.
    Error(RDKafkaErrorCode, String),
}

/// The queue of a consumer's events, of which records are none. Must be dropped before its client.
pub struct Events(Owned<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Events {}

/// The queue of the records of all partitions that [`Records::receive`] named. Must be dropped before its client.
pub struct Records(Owned<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Records {}

/// A record, in the memory of librdkafka.
pub struct Record<'m>(&'m sys::rd_kafka_message_t);

impl Events {
    /// Of this consumer.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Result<Self, RDKafkaErrorCode> {
        // SAFETY: the client lives, and the reference that this makes is freed by the guard.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) };
        Owned::new(queue, sys::rd_kafka_queue_destroy).map(Self)
    }

    /// The next one, without waiting.
    pub fn next(&self) -> Option<Event> {
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
                        Event::Shared(
                            given,
                            partitions(sys::rd_kafka_event_topic_partition_list(event.ptr())),
                        )
                    }
                    sys::RD_KAFKA_EVENT_ERROR => {
                        let fatal = sys::rd_kafka_event_error_is_fatal(event.ptr()) != 0;
                        Event::Error(code.into(), fatal, text(sys::rd_kafka_event_error_string(event.ptr())))
                    }
                    sys::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => Event::Token,
                    sys::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 7);
                        sys::rd_kafka_event_log(
                            event.ptr(),
                            &raw mut facility,
                            &raw mut line,
                            &raw mut level,
                        );
                        Event::Log(level, text(facility), text(line))
                    }
                    sys::RD_KAFKA_EVENT_FETCH => {
                        // It would be lost without a trace.
                        let why = "a record came of a partition that is not received".to_owned();
                        Event::Error(RDKafkaErrorCode::Fail, true, why)
                    }
                    _ => continue,
                });
            }
        }
    }
}

impl Records {
    /// For records of this client.
    pub fn new<C: ClientContext>(client: &Client<C>) -> Result<Self, RDKafkaErrorCode> {
        // SAFETY: the client lives, and the queue that this makes is freed by the guard.
        let queue = unsafe { sys::rd_kafka_queue_new(client.native_ptr()) };
        Owned::new(queue, sys::rd_kafka_queue_destroy).map(Self)
    }

    /// Records of this partition, those that wait and those to come, come here until the client stops reading it.
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

    /// Waits for something to come, and hands over what is there, until told to stop; the rest stays.
    ///
    /// librdkafka takes a lock and looks at the clock once for all of it, where it does so twice for each record of
    /// which it is asked by itself.
    pub fn take<C: ClientContext, F>(&self, client: &Client<C>, timeout: Duration, handle: F)
    where
        F: FnMut(Fetched<'_>) -> ControlFlow<()>,
    {
        let wait = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut taking = Taking { client: client.native_ptr(), handle };
        let opaque = (&raw mut taking).cast();
        // SAFETY: `each` is called by this thread before the call returns, with `taking`, which nothing else touches.
        unsafe { sys::rd_kafka_consume_callback_queue(self.0.ptr(), wait, Some(each::<F>), opaque) };
    }
}

struct Taking<F> {
    client: *mut sys::rd_kafka_t,
    handle: F,
}

/// # Safety
/// `message` must live through the call, and `opaque` be a [`Taking`] of this `F` that nothing else uses meanwhile.
unsafe extern "C" fn each<F>(message: *mut sys::rd_kafka_message_t, opaque: *mut c_void)
where
    F: FnMut(Fetched<'_>) -> ControlFlow<()>,
{
    // SAFETY: the caller's promise. What is handed over is borrowed for less than the call.
    unsafe {
        let (message, taking) = (&*message, &mut *opaque.cast::<Taking<F>>());
        let record = Record(message);
        let fetched = match message.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Fetched::Record(record),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Fetched::End(record.topic(), record.partition(), record.offset())
            }
            code => Fetched::Error(code.into(), text(sys::rd_kafka_message_errstr(message))),
        };
        if (taking.handle)(fetched).is_break() {
            sys::rd_kafka_yield(taking.client);
        }
    }
}

/// Gives a client the token that its context has, or says why there is none. Clients of the crate that nobody polls, and
/// those polled by [`Queue`], get it in no other way.
pub fn show_token<C: ClientContext>(client: &Client<C>) {
    let shown = client.context().generate_oauth_token(None).map_err(|error| error.to_string());
    let given = shown.and_then(|token| {
        let text = |text: String| CString::new(text).map_err(|_| "the token is not text".to_owned());
        let (value, name) = (text(token.token)?, text(token.principal_name)?);
        let mut why = [0; 256];
        // SAFETY: the client lives; all is copied within the call, and `why` is ended within its length.
        unsafe {
            let code = sys::rd_kafka_oauthbearer_set_token(
                client.native_ptr(),
                value.as_ptr(),
                token.lifetime_ms,
                name.as_ptr(),
                null_mut(),
                0,
                why.as_mut_ptr(),
                why.len(),
            );
            let refused = code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            if refused { Err(self::text(why.as_ptr())) } else { Ok(()) }
        }
    });
    if let Err(why) = given
        && let Ok(why) = CString::new(why)
    {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_oauthbearer_set_token_failure(client.native_ptr(), why.as_ptr()) };
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

impl<'m> Record<'m> {
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

    /// Its timestamp, Unix ms; none where the broker gave none.
    pub fn timestamp(&self) -> Option<i64> {
        // SAFETY: the message lives.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0, null_mut()) };
        (time >= 0).then_some(time)
    }

    /// Its key.
    pub fn key(&self) -> Option<&'m [u8]> {
        // SAFETY: librdkafka's buffer of that length, which the message holds.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// Its value; none for a tombstone.
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
/// `pointer` must be null or have `length` bytes for as long as the slice is used.
unsafe fn bytes<'b>(pointer: *const c_void, length: usize) -> Option<&'b [u8]> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// Frees a pointer of librdkafka when dropped.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        NonNull::new(pointer).map(|pointer| Self(pointer, free)).ok_or(RDKafkaErrorCode::Fail)
    }

    fn ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` was given a pointer that this guard owns, with the function of librdkafka that frees its type.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Asks for ids and partitions of topics. Blocks for at most twice `timeout` and a little.
pub fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    timeout: Duration,
) -> Result<Vec<Described>, RDKafkaErrorCode> {
    let Some(first) = topics.first() else { return Ok(Vec::new()) };
    // Any broker knows; left to itself librdkafka waits for the controller, which may be away while the others are fine.
    let metadata = client.fetch_metadata(Some(first), timeout).map_err(|error| code(&error))?;
    let known = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id);
    let asked = Some(metadata.orig_broker_id()).filter(|id| *id >= 0).into_iter().chain(known).next();
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: `names` outlives the collection's making, which copies them; the result is read while its event lives.
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

/// Asks where partitions begin or end, by one request to each leader. Partitions without an answer are left out.
pub fn ends<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(String, i32)],
    end: End,
    isolation: Isolation,
    timeout: Duration,
) -> Result<Vec<(String, i32, i64)>, RDKafkaErrorCode> {
    let spec = match end {
        End::First => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
        End::Last => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
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
        // Fails only for a timeout out of range: then the default holds.
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

/// # Safety
/// `pointer` must be null or a string that lives through the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
