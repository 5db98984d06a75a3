//! Calls of librdkafka that the `rdkafka` crate lacks: to choose where a client may connect, to take many records at a time,
//! to get topic ids, to get the ends of many partitions at once, and to learn that a partition is read to its end (transaction
//! markers at the end are not records, so no record tells).
//!
//! The only unsafe code of the worker. Invariants: every pointer comes from librdkafka, and either a guard owns it and frees
//! it once, or it is borrowed for no longer than the call or event that it came with; strings are copied; what librdkafka
//! keeps lives for ever.
#![allow(unsafe_code)]

mod admin;
mod connect;
mod queues;

use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null_mut};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

pub use admin::{PartitionEnd, describe_topics, partition_ends};
pub use connect::{RawClient, connect_guarded};
pub use queues::{ClientEvent, EventQueue, Fetched, FetchedRecord, RecordQueue};

/// Gives a client the token of its context, or tells it why there is none. Clients that nobody polls, and those whose
/// [`EventQueue`] is taken, get a token in no other way.
pub fn set_token<C: ClientContext>(client: &Client<C>) {
    let shown = client.context().generate_oauth_token(None).map_err(|error| error.to_string());
    let given = shown.and_then(|token| {
        let text = |text: String| CString::new(text).map_err(|_| "the token is not text".to_owned());
        let (value, name) = (text(token.token)?, text(token.principal_name)?);
        let mut why = [0; 256];
        // SAFETY: the client lives; all is copied within the call, and `why` is NUL-terminated within its length.
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

/// # Safety
/// `pointer` must be null or a string that lives through the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
