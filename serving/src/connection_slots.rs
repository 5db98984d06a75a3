//! Slots for connections: bounded in all and by address, with lower bounds for connections that have not sent a
//! request yet.
//!
//! When slots run short, a connection without a request under way is closed for a new one. A silent connection goes
//! first: the oldest of the newcomer's address, or of the address that has the most silent ones. Otherwise an idle
//! connection goes that was answered well, of an address with more connections than the newcomer's. So whoever
//! opens thousands pushes out only their own, and everybody else gets through.
//!
//! Invariants: the counts never exceed the bounds; a connection with a request under way is not pushed out. No
//! connection waits for a slot, and what it sends is not looked at.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many connections there may be at a time. One address may be a node with many pods behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// All connections.
    pub all: usize,
    /// Connections of one address.
    pub per_peer: usize,
    /// All silent connections: those without a request under way that never got a successful answer.
    pub silent: usize,
    /// Silent connections of one address.
    pub silent_per_peer: usize,
}

impl Caps {
    /// For probes and scrapes: a kubelet and a few scrapers.
    pub const PROBES: Self = Self { all: 128, per_peer: 32, silent: 64, silent_per_peer: 16 };

    /// Bounds of `all` connections and `per_peer` of one address. An eighth of each may be silent.
    pub fn new(all: usize, per_peer: usize) -> Self {
        let eighth = |of: usize| (of / 8).clamp(16, 1_024).min(of.max(1));
        Self {
            all: all.max(1),
            per_peer: per_peer.max(1),
            silent: eighth(all),
            silent_per_peer: eighth(per_peer),
        }
    }
}

#[derive(Debug, Default)]
struct PeerConnections {
    taken: usize,
    /// Silent connections, the longest silent first.
    silent: BTreeSet<u64>,
    /// Idle connections that got a successful answer, the longest idle first.
    idle: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    taken: usize,
    silent: usize,
    /// Silent and idle connections, by number.
    quiet: HashMap<u64, CancellationToken>,
    peers: HashMap<IpAddr, PeerConnections>,
    pushed_out: u64,
    refused: u64,
}

/// The slots of one listener.
#[derive(Debug)]
pub(crate) struct ConnectionSlots {
    caps: Caps,
    state: Mutex<SlotTable>,
}

/// A connection's slot, freed when it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    peer: IpAddr,
    standing: Mutex<Standing>,
    /// Cancelled when another connection gets the slot.
    pub(crate) pushed_out: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// The number under which it is silent or idle; `None` while a request is under way.
    quiet: Option<u64>,
    /// Whether a request got a successful answer.
    known: bool,
}

impl ConnectionSlots {
    pub(crate) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, state: Mutex::default() })
    }

    /// A slot for a new connection, if need be by pushing out one without a request; `None` if all have one.
    pub(crate) fn acquire(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionSlot> {
        // IPv4 and IPv4-mapped IPv6 addresses are the same host.
        let peer = peer.to_canonical();
        let mut state = self.lock();
        let caps = self.caps;
        let (taken, silent) = state.peers.get(&peer).map_or((0, 0), |it| (it.taken, it.silent.len()));
        let room = if silent >= caps.silent_per_peer || taken >= caps.per_peer {
            state.push_out(peer)
        } else if state.silent >= caps.silent {
            state.push_out_silent()
        } else {
            state.taken < caps.all || state.push_out_silent() || state.push_out_idle(taken)
        };
        if !room {
            state.refused += 1;
            return None;
        }
        let pushed_out = CancellationToken::new();
        let number = state.falls_quiet(peer, false, pushed_out.clone());
        state.taken += 1;
        state.peers.entry(peer).or_default().taken += 1;
        drop(state);
        let standing = Mutex::new(Standing { quiet: Some(number), known: false });
        Some(ConnectionSlot { slots: Arc::clone(self), peer, standing, pushed_out })
    }

    /// Pushes out a connection without a request when the process runs short of something else, such as file
    /// descriptors.
    pub(crate) fn make_room(&self) {
        let mut state = self.lock();
        let _ = state.push_out_silent() || state.push_out_idle(0);
    }

    /// How many connections were pushed out, and how many refused, since the last call.
    pub(crate) fn troubles(&self) -> (u64, u64) {
        let mut state = self.lock();
        (std::mem::take(&mut state.pushed_out), std::mem::take(&mut state.refused))
    }

    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotTable {
    fn falls_quiet(&mut self, peer: IpAddr, known: bool, pushed_out: CancellationToken) -> u64 {
        self.next += 1;
        self.quiet.insert(self.next, pushed_out);
        let peer = self.peers.entry(peer).or_default();
        if known {
            peer.idle.insert(self.next);
        } else {
            peer.silent.insert(self.next);
            self.silent += 1;
        }
        self.next
    }

    fn speaks(&mut self, peer: IpAddr, number: u64) {
        self.quiet.remove(&number);
        if let Some(peer) = self.peers.get_mut(&peer)
            && !peer.idle.remove(&number)
            && peer.silent.remove(&number)
        {
            self.silent -= 1;
        }
    }

    /// Pushes out the oldest silent connection of a peer, or else its oldest idle one.
    fn push_out(&mut self, peer: IpAddr) -> bool {
        let oldest = self.peers.get(&peer).and_then(|it| it.silent.first().or(it.idle.first()).copied());
        let Some(number) = oldest else { return false };
        let pushed_out = self.quiet.get(&number).cloned();
        self.speaks(peer, number);
        self.leaves(peer);
        if let Some(pushed_out) = pushed_out {
            pushed_out.cancel();
        }
        self.pushed_out += 1;
        true
    }

    /// Pushes out the oldest silent connection of the peer that has the most of them.
    fn push_out_silent(&mut self) -> bool {
        let peers = self.peers.iter().filter(|(_, peer)| !peer.silent.is_empty());
        let most = peers.max_by_key(|(_, peer)| (peer.silent.len(), Reverse(peer.silent.first())));
        most.map(|(peer, _)| *peer).is_some_and(|peer| self.push_out(peer))
    }

    /// Pushes out the oldest idle connection of the peer that has the most connections, if it has more than
    /// `more_than`.
    fn push_out_idle(&mut self, more_than: usize) -> bool {
        let peers = self.peers.iter().filter(|(_, peer)| !peer.idle.is_empty() && peer.taken > more_than);
        let most = peers.max_by_key(|(_, peer)| (peer.taken, Reverse(peer.idle.first())));
        most.map(|(peer, _)| *peer).is_some_and(|peer| self.push_out(peer))
    }

    fn leaves(&mut self, peer: IpAddr) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(held) = self.peers.get_mut(&peer) {
            held.taken = held.taken.saturating_sub(1);
            if held.taken == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

impl ConnectionSlot {
    /// The headers of a request have arrived.
    pub(crate) fn begins(&self) {
        let mut standing = self.standing();
        let mut state = self.slots.lock();
        if !self.pushed_out.is_cancelled()
            && let Some(number) = standing.quiet.take()
        {
            state.speaks(self.peer, number);
        }
    }

    /// A request was answered, successfully or not.
    pub(crate) fn answers(&self, well: bool) {
        let mut standing = self.standing();
        standing.known |= well;
        if standing.quiet.is_none() {
            let mut state = self.slots.lock();
            standing.quiet = Some(state.falls_quiet(self.peer, standing.known, self.pushed_out.clone()));
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let standing = *self.standing();
        let mut state = self.slots.lock();
        // A connection that was pushed out has been counted out already.
        if self.pushed_out.is_cancelled() {
            return;
        }
        if let Some(number) = standing.quiet {
            state.speaks(self.peer, number);
        }
        state.leaves(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { all: 6, per_peer: 4, silent: 5, silent_per_peer: 3 };

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, number])
    }

    fn known(slots: &Arc<ConnectionSlots>, number: u8) -> ConnectionSlot {
        let slot = slots.acquire(peer(number)).unwrap();
        slot.begins();
        slot.answers(true);
        slot
    }

    fn taken(slots: &ConnectionSlots) -> (usize, usize) {
        let state = slots.lock();
        assert_eq!(state.silent, state.peers.values().map(|peer| peer.silent.len()).sum::<usize>());
        (state.taken, state.silent)
    }

    #[test]
    fn a_peer_with_many_silent_ones_pushes_out_its_own_oldest() {
        let slots = ConnectionSlots::new(CAPS);
        let other = slots.acquire(peer(2)).unwrap();
        let silent: Vec<ConnectionSlot> = (0..10).map(|_| slots.acquire(peer(1)).unwrap()).collect();
        let out: Vec<bool> = silent.iter().map(|slot| slot.pushed_out.is_cancelled()).collect();
        assert_eq!(out, [true, true, true, true, true, true, true, false, false, false]);
        assert!(!other.pushed_out.is_cancelled());
        assert_eq!((taken(&slots), slots.troubles()), ((4, 4), (7, 0)));
        drop(silent);
        assert_eq!(taken(&slots), (1, 1));
        drop(other);
        assert_eq!((taken(&slots), slots.lock().peers.len()), ((0, 0), 0));
    }

    #[test]
    fn one_at_work_is_not_pushed_out_and_a_peer_all_of_whose_are_is_refused() {
        let slots = ConnectionSlots::new(CAPS);
        let idle = known(&slots, 1);
        let at_work: Vec<ConnectionSlot> = (0..3).map(|_| known(&slots, 1)).collect();
        at_work.iter().for_each(ConnectionSlot::begins);
        // An idle one makes room.
        let silent = slots.acquire(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1])).unwrap();
        assert!(idle.pushed_out.is_cancelled(), "the same host");
        silent.begins();
        assert!(slots.acquire(peer(1)).is_none());
        let other = known(&slots, 2);
        // One that was refused (401, say) is as silent as before, but not one that has been answered well.
        silent.answers(false);
        at_work[0].answers(false);
        drop(slots.acquire(peer(1)).unwrap());
        assert!(silent.pushed_out.is_cancelled());
        assert!(at_work.iter().chain([&other]).all(|it| !it.pushed_out.is_cancelled()));
        assert_eq!((taken(&slots), slots.troubles()), ((4, 0), (2, 1)));
    }

    #[test]
    fn a_house_full_of_idle_ones_makes_room_for_whoever_has_fewer() {
        let slots = ConnectionSlots::new(CAPS);
        let held: Vec<ConnectionSlot> = [1, 1, 1, 1, 2, 2].map(|number| known(&slots, number)).into();
        drop(slots.acquire(peer(2)).unwrap());
        assert!(held[0].pushed_out.is_cancelled());
        let third = known(&slots, 3);
        held.iter().chain([&third]).for_each(ConnectionSlot::begins);
        assert_eq!(taken(&slots), (6, 0));
        assert!(slots.acquire(peer(4)).is_none(), "all are at work");
        drop((held, third));
        assert_eq!(taken(&slots), (0, 0));
    }

    #[test]
    fn a_full_house_makes_room_for_a_newcomer_from_whoever_is_silent_most() {
        let slots = ConnectionSlots::new(CAPS);
        let one = slots.acquire(peer(1)).unwrap();
        let many: Vec<ConnectionSlot> = (0..3).map(|_| slots.acquire(peer(2)).unwrap()).collect();
        let known = [known(&slots, 3), known(&slots, 3)];
        let new = slots.acquire(peer(4)).unwrap();
        assert!(many[0].pushed_out.is_cancelled() && !one.pushed_out.is_cancelled());
        new.begins();
        one.begins();
        drop((many, known));
        assert_eq!(taken(&slots), (2, 0));
    }

    #[test]
    fn an_eighth_may_be_silent() {
        assert_eq!(
            Caps::new(8_192, 1_024),
            Caps { all: 8_192, per_peer: 1_024, silent: 1_024, silent_per_peer: 128 }
        );
        assert_eq!(Caps::new(0, 0), Caps { all: 1, per_peer: 1, silent: 1, silent_per_peer: 1 });
    }
}
