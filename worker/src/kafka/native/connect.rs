//! Limits where a Kafka client may connect.
//!
//! The crate makes a client in one step and can't set a connect callback before. So a client is made without brokers and
//! connects to nothing; then it gets the callback, and only then its brokers. The callback checks the address of each
//! connection. So it also covers names that resolve to another address by now, and brokers that the cluster itself names.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::from_ref;

use domain::Guard;
use rdkafka::admin::AdminClient;
use rdkafka::bindings as sys;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::producer::{FutureProducer, Producer as _};

/// A client of the crate.
pub trait RawClient {
    /// The pointer of librdkafka; valid for as long as the client lives.
    fn raw(&self) -> *mut sys::rd_kafka_t;
}

impl<C: ConsumerContext> RawClient for BaseConsumer<C> {
    fn raw(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext + 'static> RawClient for FutureProducer<C> {
    fn raw(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> RawClient for AdminClient<C> {
    fn raw(&self) -> *mut sys::rd_kafka_t {
        self.inner().native_ptr()
    }
}

/// Gives a client that was made without brokers its brokers, `host:port` separated by commas, and lets it connect only where
/// `guard` allows. Fails if `servers` names no broker.
pub fn connect_guarded(client: &impl RawClient, guard: &'static Guard, servers: &str) -> Result<(), String> {
    let list = CString::new(servers).map_err(|_| "the brokers are not text".to_owned())?;
    // SAFETY: the client lives, and the guard for ever. librdkafka keeps its configuration in the client, and reads what is
    // set here only where a broker is connected to: by threads that it starts for brokers, of which there are none before
    // the last call (the crate's own opaque is for callbacks that it does not set). The list is copied.
    let brokers = unsafe {
        let conf = sys::rd_kafka_conf(client.raw()).cast_mut();
        sys::rd_kafka_conf_set_opaque(conf, from_ref(guard).cast_mut().cast());
        sys::rd_kafka_conf_set_connect_cb(conf, Some(connect));
        sys::rd_kafka_brokers_add(client.raw(), list.as_ptr())
    };
    if brokers > 0 { Ok(()) } else { Err(format!("{servers:?} names no broker")) }
}

/// Connects as librdkafka itself does: returns 0 if it is connected or connecting, since its sockets don't block, else errno.
///
/// # Safety
/// `to` must point to an address of `length` bytes, and `opaque` be what [`connect_guarded`] set.
unsafe extern "C" fn connect(
    socket: c_int,
    to: *const libc::sockaddr,
    length: c_int,
    _broker: *const c_char,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise; the guard is never changed or freed.
    let (guard, address) = unsafe { (&*opaque.cast_const().cast::<Guard>(), address(to, length)) };
    if address.is_none_or(|address| guard.check(address).is_err()) {
        return libc::EACCES;
    }
    // SAFETY: the caller's promise.
    if unsafe { libc::connect(socket, to, length.unsigned_abs()) } == 0 {
        return 0;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINPROGRESS) => 0,
        Some(error) => error,
        None => libc::EIO,
    }
}

/// # Safety
/// `to` must be null or point to an address of `length` bytes.
unsafe fn address(to: *const libc::sockaddr, length: c_int) -> Option<IpAddr> {
    let length = usize::try_from(length).ok().filter(|_| !to.is_null())?;
    let holds = |size: usize| (length >= size).then_some(());
    holds(size_of::<libc::sockaddr>())?;
    // SAFETY: the caller's promise, and the family says which of them it is.
    unsafe {
        match c_int::from(to.read_unaligned().sa_family) {
            libc::AF_INET => {
                holds(size_of::<libc::sockaddr_in>())?;
                let v4 = to.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                holds(size_of::<libc::sockaddr_in6>())?;
                let v6 = to.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
