//! Rate limits: requests per token, per stream and per project, and bytes per project.
//!
//! Limits are checked before the request body is read. The narrowest is checked first, so requests of one token that
//! are refused do not use up the limit of its project. Memory is bounded: a key that was idle for the whole period of
//! its limit is forgotten ([`RateLimits::forget_idle`]). Independent of HTTP; each contract reports the remaining
//! requests in its own headers.

mod rates;
mod window;

use crate::batch::Tag;
use crate::clock::Clock;
use crate::contracts::Standing;
use hashbrown::DefaultHashBuilder;
use rates::{Moment, Rates};
use std::hash::BuildHasher;
use std::time::Instant;
use window::Windows;

/// The configured limits; 0 means unlimited. Each applies to every token, stream or project separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimitSettings {
    /// Requests per second of a token without its own limit.
    pub token_per_second: u32,
    /// Requests per second to a stream.
    pub stream_per_second: u32,
    pub profiles: Profiles,
}

/// The limits of each contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Profiles([RateProfile; Tag::ALL.len()]);

impl Profiles {
    pub fn new(of: impl Fn(Tag) -> RateProfile) -> Self {
        Self(Tag::ALL.map(of))
    }

    fn for_contract(&self, contract: Tag) -> &RateProfile {
        let at = Tag::ALL.iter().position(|known| *known == contract);
        &self.0[at.unwrap_or(0)]
    }
}

/// The limits of one contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateProfile {
    /// Requests per second to a stream; applies if it is below the limit for all contracts.
    pub stream_per_second: u32,
    /// Requests per second of a project, evenly spread over time.
    pub per_second: u32,
    /// Requests of a project in each minute of the clock. If set, this is the limit that the contract reports.
    pub per_minute: Option<u32>,
    /// Body bytes per second of a project, as they arrive on the wire.
    pub bytes_per_second: u64,
}

/// A request that asks for admission.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub contract: Tag,
    /// The permanent id of the token.
    pub token: u64,
    /// The token's own limit of requests per second.
    pub token_per_second: Option<u32>,
    pub project: Option<&'a str>,
}

/// A limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Seconds until a retry may succeed; at least 1.
    pub retry_seconds: u32,
    /// The state of the request limit, if that is the one exceeded or if the contract has one.
    pub standing: Option<Standing>,
}

/// The rate limits and their state; see the module documentation.
pub struct RateLimits {
    settings: RateLimitSettings,
    tokens: Rates,
    streams: Rates,
    projects: Rates,
    windows: Windows,
    bytes: Rates,
    /// The start of the time scale that the limits use.
    epoch: Instant,
    hasher: DefaultHashBuilder,
}

impl RateLimits {
    pub fn new(settings: RateLimitSettings) -> Self {
        Self {
            settings,
            tokens: Rates::default(),
            streams: Rates::default(),
            projects: Rates::default(),
            windows: Windows::default(),
            bytes: Rates::default(),
            epoch: Instant::now(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub fn settings(&self) -> &RateLimitSettings {
        &self.settings
    }

    /// Admits or refuses one request, to the stream with this number if it is known. Returns what is left of the
    /// limit, if one is set.
    pub fn admit(
        &self,
        asking: &Asking<'_>,
        stream: Option<u32>,
        now: Instant,
        clock: &dyn Clock,
    ) -> Result<Option<Standing>, LimitExceeded> {
        let profile = self.profile(asking.contract);
        let project = self.project(asking);
        let narrow = self.admit_narrow(asking, stream, now).and_then(|narrow| {
            let broad = self.projects.take(profile.per_second, project, 1, self.moment(now))?;
            Ok([narrow, broad].into_iter().flatten().min_by_key(|standing| standing.remaining))
        });
        let Some(per_minute) = profile.per_minute else { return narrow };
        match narrow {
            Ok(_) => self.windows.take(per_minute, project, 1, clock.now()),
            Err(refused) => {
                let standing = self.windows.take(per_minute, project, 0, clock.now());
                Err(LimitExceeded { standing: standing.ok().flatten(), ..refused })
            }
        }
    }

    /// Checks only the limit of the token, for calls that a contract's limits do not apply to.
    pub fn admit_token(&self, asking: &Asking<'_>, now: Instant) -> Result<Option<Standing>, LimitExceeded> {
        let per_second = asking.token_per_second.unwrap_or(self.settings.token_per_second);
        self.tokens.take(per_second, asking.token, 1, self.moment(now))
    }

    fn admit_narrow(
        &self,
        asking: &Asking<'_>,
        stream: Option<u32>,
        now: Instant,
    ) -> Result<Option<Standing>, LimitExceeded> {
        let token = self.admit_token(asking, now)?;
        let of_stream = [self.settings.stream_per_second, self.profile(asking.contract).stream_per_second];
        let per_second = of_stream.into_iter().filter(|limit| *limit > 0).min().unwrap_or(0);
        let stream = match stream {
            Some(stream) => self.streams.take(per_second, stream.into(), 1, self.moment(now))?,
            None => None,
        };
        Ok([token, stream].into_iter().flatten().min_by_key(|standing| standing.remaining))
    }

    /// Charges body bytes, as they arrive on the wire.
    pub fn charge(&self, asking: &Asking<'_>, bytes: u64, now: Instant) -> Result<(), LimitExceeded> {
        let per_second = self.profile(asking.contract).bytes_per_second;
        if per_second == 0 || bytes == 0 {
            return Ok(());
        }
        // At high rates a cell is several bytes, since single bytes would be less than a nanosecond apart.
        let cell = per_second.div_ceil(rates::PER_SECOND_MAX);
        let cells = |bytes: u64| u32::try_from(bytes.div_ceil(cell)).unwrap_or(u32::MAX);
        let allowed = cells(per_second);
        // A body larger than one second's allowance is charged one second. Otherwise it could never be admitted.
        let charged = cells(bytes).min(allowed);
        let taken = self.bytes.take(allowed, self.project(asking), charged, self.moment(now));
        taken.map(drop).map_err(|refused| LimitExceeded { standing: None, ..refused })
    }

    /// Forgets the keys whose state no longer matters. Call it periodically.
    pub fn forget_idle(&self, clock: &dyn Clock) {
        let now = self.moment(Instant::now());
        for rates in [&self.tokens, &self.streams, &self.projects, &self.bytes] {
            rates.forget_idle(now);
        }
        self.windows.forget_idle(clock.now());
    }

    fn profile(&self, contract: Tag) -> &RateProfile {
        self.settings.profiles.for_contract(contract)
    }

    fn project(&self, asking: &Asking<'_>) -> u64 {
        self.hasher.hash_one((asking.contract, asking.project))
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment(u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;
    use std::time::Duration;

    /// A time in the 37th second of a minute.
    const WALL: i64 = 1_700_000_000_000_000 / 60_000_000 * 60_000_000 + 37_000_000;

    struct World {
        limits: RateLimits,
        clock: FakeClock,
        begin: Instant,
        millis: u64,
    }

    impl World {
        fn new(settings: RateLimitSettings) -> Self {
            let limits = RateLimits::new(settings);
            Self { begin: limits.epoch, limits, clock: FakeClock::at(WALL), millis: 0 }
        }

        fn pass(&mut self, millis: u64) {
            self.millis += millis;
            self.clock.set(WALL + i64::try_from(self.millis).unwrap() * 1000);
        }

        fn now(&self) -> Instant {
            self.begin + Duration::from_millis(self.millis)
        }

        fn admit(&self, asking: &Asking<'_>, stream: u32) -> Result<Option<Standing>, LimitExceeded> {
            self.limits.admit(asking, Some(stream), self.now(), &self.clock)
        }

        fn charge(&self, asking: &Asking<'_>, bytes: u64) -> Result<(), LimitExceeded> {
            self.limits.charge(asking, bytes, self.now())
        }
    }

    fn by_token(token: u64) -> Asking<'static> {
        Asking { contract: Tag::Tinybird, token, token_per_second: None, project: None }
    }

    fn only(contract: Tag, profile: RateProfile) -> Profiles {
        Profiles::new(|other| if other == contract { profile } else { RateProfile::default() })
    }

    fn standing(limit: u32, remaining: u32, reset_seconds: u32) -> Standing {
        Standing { limit, remaining, reset_seconds }
    }

    #[test]
    fn without_limits_everything_comes_in_and_nothing_is_told() {
        let world = World::new(RateLimitSettings::default());
        for _ in 0..10_000 {
            assert_eq!(world.admit(&by_token(1), 1), Ok(None));
        }
        assert_eq!(world.charge(&by_token(1), u64::MAX), Ok(()));
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_the_rest_as_time_goes() {
        let tinybird = RateProfile { per_second: 10, ..RateProfile::default() };
        let mut world = World::new(RateLimitSettings {
            profiles: only(Tag::Tinybird, tinybird),
            ..RateLimitSettings::default()
        });
        for left in (0..10).rev() {
            assert_eq!(world.admit(&by_token(1), 1), Ok(Some(standing(10, left, 1))));
        }
        let refused = LimitExceeded { retry_seconds: 1, standing: Some(standing(10, 0, 1)) };
        assert_eq!(world.admit(&by_token(2), 1), Err(refused), "both tokens share the limit of the project");
        world.pass(100);
        assert_eq!(world.admit(&by_token(1), 1), Ok(Some(standing(10, 0, 1))));
        assert_eq!(world.admit(&by_token(1), 1), Err(refused));
        let other = Asking { project: Some("p2"), ..by_token(3) };
        assert_eq!(world.admit(&other, 1), Ok(Some(standing(10, 9, 1))));
    }

    #[test]
    fn what_a_token_is_refused_takes_nothing_from_the_others() {
        let tinybird = RateProfile { per_second: 20, ..RateProfile::default() };
        let world = World::new(RateLimitSettings {
            token_per_second: 5,
            profiles: only(Tag::Tinybird, tinybird),
            ..RateLimitSettings::default()
        });
        let noisy = (0..1000).filter(|_| world.admit(&by_token(1), 1).is_ok()).count();
        assert_eq!(noisy, 5);
        assert_eq!(
            world.admit(&by_token(2), 1),
            Ok(Some(standing(5, 4, 1))),
            "the narrower limit is reported"
        );
        // The token's own limit overrides the default in either direction; 0 means unlimited.
        let own = Asking { token_per_second: Some(2), ..by_token(3) };
        assert_eq!((0..9).filter(|_| world.admit(&own, 1).is_ok()).count(), 2);
        let free = Asking { token_per_second: Some(0), ..by_token(4) };
        assert_eq!((0..99).filter(|_| world.admit(&free, 1).is_ok()).count(), 12);
    }

    #[test]
    fn a_stream_has_the_lower_of_its_limits() {
        let tinybird = RateProfile { stream_per_second: 3, ..RateProfile::default() };
        let world = World::new(RateLimitSettings {
            stream_per_second: 5,
            profiles: only(Tag::Tinybird, tinybird),
            ..RateLimitSettings::default()
        });
        let taken =
            |asking: &Asking<'_>, stream| (0..9).filter(|_| world.admit(asking, stream).is_ok()).count();
        assert_eq!(taken(&by_token(1), 1), 3);
        assert_eq!(taken(&by_token(1), 2), 3);
        assert_eq!(taken(&Asking { contract: Tag::Polaris, ..by_token(1) }, 3), 5);
    }

    #[test]
    fn minutes_are_those_of_the_clock() {
        let polaris = RateProfile { per_minute: Some(83_334), ..RateProfile::default() };
        let mut world = World::new(RateLimitSettings {
            profiles: only(Tag::Polaris, polaris),
            ..RateLimitSettings::default()
        });
        let asking = Asking { contract: Tag::Polaris, ..by_token(1) };
        assert_eq!(world.admit(&asking, 1), Ok(Some(standing(83_334, 83_333, 23))));
        world.pass(1500);
        for _ in 0..83_332 {
            world.admit(&asking, 1).unwrap();
        }
        assert_eq!(world.admit(&asking, 1), Ok(Some(standing(83_334, 0, 22))));
        let refused = LimitExceeded { retry_seconds: 22, standing: Some(standing(83_334, 0, 22)) };
        assert_eq!(world.admit(&asking, 1), Err(refused));
        world.pass(21_499);
        let refused = LimitExceeded { retry_seconds: 1, standing: Some(standing(83_334, 0, 1)) };
        assert_eq!(world.admit(&asking, 1), Err(refused));
        world.pass(1);
        assert_eq!(world.admit(&asking, 1), Ok(Some(standing(83_334, 83_333, 60))));
    }

    #[test]
    fn a_contract_that_counts_in_minutes_tells_of_its_minute_only() {
        let polaris = RateProfile { per_minute: Some(100), ..RateProfile::default() };
        let world = World::new(RateLimitSettings {
            token_per_second: 1,
            profiles: only(Tag::Polaris, polaris),
            ..RateLimitSettings::default()
        });
        let asking = Asking { contract: Tag::Polaris, ..by_token(1) };
        assert_eq!(world.admit(&asking, 1), Ok(Some(standing(100, 99, 23))));
        let refused = LimitExceeded { retry_seconds: 1, standing: Some(standing(100, 99, 23)) };
        assert_eq!(world.admit(&asking, 1), Err(refused));
    }

    #[test]
    fn bytes_are_counted_to_the_byte_and_large_bodies_may_come_when_nothing_else_does() {
        let tinybird = RateProfile { bytes_per_second: 20_000_000, ..RateProfile::default() };
        let mut world = World::new(RateLimitSettings {
            profiles: only(Tag::Tinybird, tinybird),
            ..RateLimitSettings::default()
        });
        assert_eq!(world.charge(&by_token(1), 15_000_000), Ok(()));
        assert_eq!(
            world.charge(&by_token(1), 5_000_001),
            Err(LimitExceeded { retry_seconds: 1, standing: None })
        );
        assert_eq!(world.charge(&by_token(1), 4_999_998), Ok(()));
        assert_eq!(world.charge(&by_token(1), 10).map_err(|refused| refused.retry_seconds), Err(1));
        assert_eq!(world.charge(&Asking { project: Some("p2"), ..by_token(1) }, 15_000_000), Ok(()));
        world.pass(1000);
        assert_eq!(world.charge(&by_token(1), 1 << 40), Ok(()));
        assert_eq!(world.charge(&by_token(1), 1).map_err(|refused| refused.retry_seconds), Err(1));
    }

    #[test]
    fn who_is_not_heard_of_is_forgotten() {
        let tinybird = RateProfile { per_second: 10, bytes_per_second: 1000, ..RateProfile::default() };
        let polaris = RateProfile { per_minute: Some(10), ..RateProfile::default() };
        let profiles = Profiles::new(|contract| if contract == Tag::Polaris { polaris } else { tinybird });
        let limits = RateLimitSettings { token_per_second: 10, stream_per_second: 10, profiles };
        let world = World::new(limits);
        let held = || {
            let limits = &world.limits;
            let rates = [&limits.tokens, &limits.streams, &limits.projects, &limits.bytes];
            rates.map(Rates::len).iter().sum::<usize>() + limits.windows.len()
        };
        for token in 0..100 {
            let project = token.to_string();
            for contract in [Tag::Tinybird, Tag::Polaris] {
                let asking = Asking {
                    contract,
                    project: Some(&project),
                    token_per_second: Some(1),
                    ..by_token(token)
                };
                world.admit(&asking, u32::try_from(token).unwrap()).ok();
                world.charge(&asking, 1).ok();
            }
        }
        assert!(held() > 300, "{}", held());
        std::thread::sleep(Duration::from_millis(2100));
        world.clock.set(WALL + 60_000_000);
        world.limits.forget_idle(&world.clock);
        assert_eq!(held(), 0);
    }
}
