//! Which of a provider's open channels pays for a request, where the caller names the provider only; and the most that a
//! request can cost before it has a channel (design section 4).

use drain_protocol::Usdc;
use drain_protocol::chat::PREAUTH_OUTPUT_TOKENS;
use drain_protocol::pricing::Price;

/// What decides the most that a request can cost.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Input tokens, from above.
    pub input_tokens: u64,
    /// The longest answer.
    pub max_tokens: u32,
    /// What the caller, or else the operator, allows where the price is not by token.
    pub max_cost: Usdc,
}

/// Whether cost follows from tokens, so that usage explains it: other services list their prices in the same form.
pub fn is_by_token(category: &str, price: &Price) -> bool {
    category.eq_ignore_ascii_case("llm") && matches!(price, Price::PerToken { .. })
}

/// A stream that reports no usage is charged by the length of its text, four characters a token (protocol.md section 5.5).
/// The tokens of most texts are longer, so its bound covers twice as many as are asked for: an honest provider leaves no
/// arrears.
const TOKENS_STREAMED: u32 = 2;

impl Wanted {
    /// The same, answered as a stream.
    pub const fn streamed(self) -> Self {
        Self { max_tokens: self.max_tokens.saturating_mul(TOKENS_STREAMED), ..self }
    }

    /// The most that it can cost at this price.
    pub fn bound(&self, price: &Price, by_token: bool) -> Usdc {
        match price {
            Price::PerToken { .. } if by_token => {
                price.bound(self.input_tokens, u64::from(self.max_tokens.max(PREAUTH_OUTPUT_TOKENS)))
            }
            // Not by token: the caller's word, or the operator's.
            Price::PerToken { .. } => self.max_cost,
            Price::Flat(flat) => *flat,
            Price::Free => Usdc::ZERO,
        }
    }
}

/// An open channel that could pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is left of it.
    pub available: Usdc,
    /// Requests that wait for it or are under way, as far as they name no channel.
    pub users: usize,
    /// Reserved for requests under way, or of unknown outcome.
    pub in_flight: Usdc,
    /// When it expires.
    pub expires_at: u64,
}

/// What was found among the open channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// This one pays for the whole request: it is idle, or as many are open as may be.
    Fits(T),
    /// All that could pay are at work, and another one may be opened: this one pays when its turn has come.
    Busy(T),
    /// None does; this one has most left, and pays for a shorter answer.
    Short(T),
    /// There is none.
    Nothing,
}

impl Candidate {
    /// Whether it pays for such a request, now or when what is reserved for those at work is known to be less. What is reserved
    /// for a request of unknown outcome is not waited for.
    fn pays(&self, bound: Usdc) -> bool {
        let reserved = if self.users > 0 { self.in_flight } else { Usdc::ZERO };
        self.available.saturating_add(reserved) >= bound
    }
}

/// Chooses: one that pays for the whole request, an idle one before one at work, and of these the one that expires first, so
/// that what was locked first is used first. Where all are at work, another one may be opened up to `at_once` of them.
pub fn choose<T>(channels: Vec<(T, Candidate)>, bound: Usdc, at_once: u32) -> Found<T> {
    let all_are_open = channels.len() >= usize::try_from(at_once).unwrap_or(usize::MAX);
    let (paying, short): (Vec<_>, Vec<_>) = channels.into_iter().partition(|(_, channel)| channel.pays(bound));
    let by = |channel: &Candidate| (channel.users, !channel.in_flight.is_zero(), channel.expires_at);
    match paying.into_iter().min_by_key(|(_, channel)| by(channel)) {
        Some((channel, candidate)) if all_are_open || candidate.users == 0 => return Found::Fits(channel),
        Some((channel, _)) => return Found::Busy(channel),
        None => {}
    }
    match short.into_iter().max_by_key(|(_, channel)| channel.available) {
        Some((channel, _)) => Found::Short(channel),
        None => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(available: u32, in_flight: u32, expires_at: u64) -> Candidate {
        Candidate { available: Usdc::new(available), users: 0, in_flight: Usdc::new(in_flight), expires_at }
    }

    #[test]
    fn the_idle_one_that_expires_first_pays() {
        let channels = vec![
            ("busy", channel(100, 5, 1)),
            ("late", channel(100, 0, 9)),
            ("soon", channel(50, 0, 5)),
            ("small", channel(9, 0, 2)),
        ];
        assert_eq!(choose(channels.clone(), Usdc::new(50), 1), Found::Fits("soon"));
        assert_eq!(choose(channels.clone(), Usdc::new(51), 1), Found::Fits("late"));
        assert_eq!(choose(channels.clone(), Usdc::new(101), 1), Found::Short("late"));
        assert_eq!(choose(channels[..1].to_vec(), Usdc::new(100), 1), Found::Fits("busy"));
        assert_eq!(choose(Vec::<((), _)>::new(), Usdc::ZERO, 1), Found::Nothing);
    }

    #[test]
    fn requests_at_once_have_as_many_channels_as_may_be() {
        let used = |users| Candidate { users, ..channel(100, 0, 1) };
        let two = || vec![("two", used(2)), ("one", used(1))];
        assert_eq!(choose(two(), Usdc::new(1), 2), Found::Fits("one"));
        assert_eq!(choose(two(), Usdc::new(1), 3), Found::Busy("one"));
        assert_eq!(choose(vec![("one", used(1)), ("idle", used(0))], Usdc::new(1), 3), Found::Fits("idle"));
        // What those at work leave over is waited for; what is in doubt is not.
        let reserved = |users| Candidate { users, ..channel(40, 60, 1) };
        assert_eq!(choose(vec![("at work", reserved(1))], Usdc::new(60), 1), Found::Fits("at work"));
        assert_eq!(choose(vec![("at work", reserved(1))], Usdc::new(60), 2), Found::Busy("at work"));
        assert_eq!(choose(vec![("in doubt", reserved(0))], Usdc::new(60), 1), Found::Short("in doubt"));
    }

    #[test]
    fn what_a_request_can_cost_follows_its_price() {
        let wanted = Wanted { input_tokens: 1_000, max_tokens: 10, max_cost: Usdc::new(7) };
        let price = Price::per_1k(Usdc::new(100), Usdc::new(200));
        // A provider wants 50 tokens of an answer covered.
        assert_eq!(wanted.bound(&price, true), Usdc::new(110));
        assert_eq!(Wanted { max_tokens: 1_000, ..wanted }.bound(&price, true), Usdc::new(300));
        assert_eq!(Wanted { max_tokens: 1_000, ..wanted }.streamed().bound(&price, true), Usdc::new(500));
        assert_eq!(wanted.bound(&price, false), Usdc::new(7));
        assert_eq!(wanted.bound(&Price::Flat(Usdc::new(5)), false), Usdc::new(5));
        assert_eq!(wanted.bound(&Price::Free, true), Usdc::ZERO);
        assert!(is_by_token("LLM", &price) && !is_by_token("image", &price));
        assert!(!is_by_token("llm", &Price::Flat(Usdc::new(5))));
    }
}
