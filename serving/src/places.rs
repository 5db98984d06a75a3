//! Places for connections: so many in all, so many of one address, and fewer for those that have not said anything yet.
//!
//! Where places run short, a silent connection makes room for a new one: its peer's oldest, or the oldest of the peer that
//! has most of them. So whoever opens thousands and says nothing only pushes out its own, and a new one of anybody else is
//! heard. Invariants: what is counted is never above the bounds; a connection with a request under way, or with one that was
//! answered well, is not pushed out. Never: a connection that waits for a place, or a look at what it says.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How many connections there may be at a time. An address may be that of a node with many pods behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// In all.
    pub all: usize,
    /// Of one address.
    pub per_peer: usize,
    /// In all, of those that are silent: no request of theirs is under way and none was answered well.
    pub silent: usize,
    /// Of one address, of those that are silent.
    pub silent_per_peer: usize,
}

impl Caps {
    /// For probes and scrapes: a kubelet and a few scrapers.
    pub const PROBES: Self = Self { all: 128, per_peer: 32, silent: 64, silent_per_peer: 16 };

    /// With `all` connections, so many of them of one address; an eighth of either may be silent.
    pub fn of(all: usize, per_peer: usize) -> Self {
        let eighth = |of: usize| (of / 8).clamp(16, 1_024).min(of.max(1));
        Self { all: all.max(1), per_peer: per_peer.max(1), silent: eighth(all), silent_per_peer: eighth(per_peer) }
    }
}

#[derive(Debug, Default)]
struct Peer {
    taken: usize,
    /// Silent connections, the longest silent first.
    silent: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    taken: usize,
    silent: HashMap<u64, CancellationToken>,
    peers: HashMap<IpAddr, Peer>,
    pushed_out: u64,
    refused: u64,
}

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    caps: Caps,
    state: Mutex<State>,
}

/// A connection's place; it ends with it.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
    standing: Mutex<Standing>,
    /// Set when another one needs the place.
    pub(crate) pushed_out: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Since it took that number.
    Silent(u64),
    /// A request is under way.
    AtWork,
    /// A request was answered well.
    Known,
}

impl Places {
    pub(crate) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, state: Mutex::default() })
    }

    /// A place for a new connection, if need be that of a silent one; none when all are taken by others.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        // The same host by IPv4 and as IPv6 tells of it.
        let peer = peer.to_canonical();
        let mut state = self.lock();
        let of_peer = state.peers.get(&peer).map_or((0, 0), |it| (it.taken, it.silent.len()));
        if of_peer.0 >= self.caps.per_peer || of_peer.1 >= self.caps.silent_per_peer {
            if !state.push_out(peer) {
                state.refused += 1;
                return None;
            }
        } else if (state.taken >= self.caps.all || state.silent.len() >= self.caps.silent)
            && !state.push_out_any()
        {
            state.refused += 1;
            return None;
        }
        let pushed_out = CancellationToken::new();
        let number = state.falls_silent(peer, pushed_out.clone());
        state.taken += 1;
        state.peers.entry(peer).or_default().taken += 1;
        drop(state);
        Some(Place { places: Arc::clone(self), peer, standing: Mutex::new(Standing::Silent(number)), pushed_out })
    }

    /// Frees the place of a silent connection, where the process runs short of something else.
    pub(crate) fn make_room(&self) {
        self.lock().push_out_any();
    }

    /// How many were pushed out, and how many refused, since this was last asked.
    pub(crate) fn troubles(&self) -> (u64, u64) {
        let mut state = self.lock();
        (std::mem::take(&mut state.pushed_out), std::mem::take(&mut state.refused))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn falls_silent(&mut self, peer: IpAddr, pushed_out: CancellationToken) -> u64 {
        self.next += 1;
        self.silent.insert(self.next, pushed_out);
        self.peers.entry(peer).or_default().silent.insert(self.next);
        self.next
    }

    fn speaks(&mut self, peer: IpAddr, number: u64) {
        self.silent.remove(&number);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.silent.remove(&number);
        }
    }

    /// The oldest silent one of a peer leaves.
    fn push_out(&mut self, peer: IpAddr) -> bool {
        let oldest = self.peers.get_mut(&peer).and_then(|peer| peer.silent.pop_first());
        let Some(pushed_out) = oldest.and_then(|number| self.silent.remove(&number)) else { return false };
        pushed_out.cancel();
        self.leaves(peer);
        self.pushed_out += 1;
        true
    }

    /// The oldest silent one of the peer that has most of them leaves.
    fn push_out_any(&mut self) -> bool {
        let peers = self.peers.iter().filter(|(_, peer)| !peer.silent.is_empty());
        let most = peers.max_by_key(|(_, peer)| (peer.silent.len(), std::cmp::Reverse(peer.silent.first())));
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

impl Place {
    /// The head of a request is there.
    pub(crate) fn begins(&self) {
        let mut standing = self.standing();
        if let Standing::Silent(number) = *standing {
            let mut state = self.places.lock();
            if !self.pushed_out.is_cancelled() {
                state.speaks(self.peer, number);
                *standing = Standing::AtWork;
            }
        }
    }

    /// A request is answered, well or not.
    pub(crate) fn answers(&self, well: bool) {
        let mut standing = self.standing();
        if *standing == Standing::AtWork {
            *standing = if well {
                Standing::Known
            } else {
                Standing::Silent(self.places.lock().falls_silent(self.peer, self.pushed_out.clone()))
            };
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let standing = *self.standing();
        let mut state = self.places.lock();
        // Whoever was pushed out has left already.
        if self.pushed_out.is_cancelled() {
            return;
        }
        if let Standing::Silent(number) = standing {
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

    fn known(places: &Arc<Places>, number: u8) -> Place {
        let place = places.enter(peer(number)).unwrap();
        place.begins();
        place.answers(true);
        place
    }

    fn taken(places: &Places) -> (usize, usize) {
        let state = places.lock();
        (state.taken, state.silent.len())
    }

    #[test]
    fn a_peer_with_many_silent_ones_pushes_out_its_own_oldest() {
        let places = Places::new(CAPS);
        let other = places.enter(peer(2)).unwrap();
        let silent: Vec<Place> = (0..10).map(|_| places.enter(peer(1)).unwrap()).collect();
        let out: Vec<bool> = silent.iter().map(|place| place.pushed_out.is_cancelled()).collect();
        assert_eq!(out, [true, true, true, true, true, true, true, false, false, false]);
        assert!(!other.pushed_out.is_cancelled());
        assert_eq!((taken(&places), places.troubles()), ((4, 4), (7, 0)));
        drop(silent);
        assert_eq!(taken(&places), (1, 1));
        drop(other);
        assert_eq!((taken(&places), places.lock().peers.len()), ((0, 0), 0));
    }

    #[test]
    fn one_at_work_or_known_is_not_pushed_out_and_a_full_peer_is_refused() {
        let places = Places::new(CAPS);
        let mut held: Vec<Place> = (0..3).map(|_| known(&places, 1)).collect();
        let at_work = places.enter(peer(1)).unwrap();
        at_work.begins();
        assert!(places.enter(peer(1)).is_none());
        assert!(places.enter(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1])).is_none(), "the same host");
        held.push(known(&places, 2));
        // One that was refused (401, say) is as silent as before.
        at_work.answers(false);
        drop(places.enter(peer(1)).unwrap());
        assert!(at_work.pushed_out.is_cancelled() && held.iter().all(|it| !it.pushed_out.is_cancelled()));
        assert_eq!(taken(&places), (4, 0));
        assert_eq!(places.troubles(), (1, 2));
    }

    #[test]
    fn a_full_house_makes_room_for_a_newcomer_from_whoever_is_silent_most() {
        let places = Places::new(CAPS);
        let one = places.enter(peer(1)).unwrap();
        let many: Vec<Place> = (0..3).map(|_| places.enter(peer(2)).unwrap()).collect();
        let known = [known(&places, 3), known(&places, 3)];
        let new = places.enter(peer(4)).unwrap();
        assert!(many[0].pushed_out.is_cancelled() && !one.pushed_out.is_cancelled());
        new.begins();
        one.begins();
        drop((many, known));
        assert_eq!(taken(&places), (2, 0));
    }

    #[test]
    fn an_eighth_may_be_silent() {
        assert_eq!(Caps::of(8_192, 1_024), Caps { all: 8_192, per_peer: 1_024, silent: 1_024, silent_per_peer: 128 });
        assert_eq!(Caps::of(0, 0), Caps { all: 1, per_peer: 1, silent: 1, silent_per_peer: 1 });
    }
}
