//! Whether a channel that agents of one wallet share serves one more of them (`share_channels`).
//!
//! Nothing in it is reserved for anybody: what one agent uses, the others do not have. So it need not have all that was
//! asked for. Half is enough, of amount and of time: a channel that has paid once would otherwise serve nobody who asks for
//! as much as its opener did, and fifty agents would lock fifty deposits.

use drain_protocol::Usdc;

use super::Books;

/// What an agent asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The deposit.
    pub amount: Usdc,
    /// For how long, in seconds.
    pub duration: u64,
    /// The most that vouchers of one channel may reach, by its own limits (M3).
    pub most: Usdc,
}

/// A channel that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its books.
    pub books: Books,
    /// Seconds until it expires.
    pub left: u64,
}

/// Whether the channel has room and time enough for the wish.
pub fn fits(offer: &Offer, wish: &Wish) -> bool {
    let books = Books { cap: offer.books.cap.min(wish.most), ..offer.books };
    let room = books.available();
    !room.is_zero()
        && room.saturating_add(room) >= wish.amount
        && offer.left > 0
        && offer.left.saturating_mul(2) >= wish.duration
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(amount: u32, duration: u64) -> Wish {
        Wish { amount: Usdc::new(amount), duration, most: Usdc::new(1_000) }
    }

    fn offer(deposit: u32, charged: u32, in_flight: u32, left: u64) -> Offer {
        let [deposit, charged, in_flight] = [deposit, charged, in_flight].map(Usdc::new);
        let books = Books { deposit, cap: deposit, charged, in_flight, signed: charged, ..Books::default() };
        Offer { books, left }
    }

    #[test]
    fn half_of_what_was_asked_for_is_enough_and_less_is_not() {
        assert!(fits(&offer(100, 0, 0, 60), &wish(100, 60)));
        assert!(fits(&offer(100, 30, 20, 30), &wish(100, 60)));
        assert!(!fits(&offer(100, 31, 20, 30), &wish(100, 60)), "room");
        assert!(!fits(&offer(100, 30, 20, 29), &wish(100, 60)), "time");
    }

    #[test]
    fn a_channel_that_is_used_up_or_over_serves_nobody() {
        assert!(!fits(&offer(100, 100, 0, 60), &wish(0, 0)));
        assert!(!fits(&offer(100, 0, 0, 0), &wish(1, 0)));
    }

    /// M3: what others have signed counts against what one channel may reach by the agent's own limits.
    #[test]
    fn m3_an_agents_own_limit_on_a_channel_holds_for_a_shared_one() {
        let wish = Wish { most: Usdc::new(60), ..wish(100, 60) };
        assert!(fits(&offer(100, 10, 0, 60), &wish));
        assert!(!fits(&offer(100, 11, 0, 60), &wish));
    }
}
