//! Events for the benchmarks, as a web shop would send them: eight fields, about 208 bytes.

const CITIES: [&str; 20] = [
    "Pretoria", "Lagos", "Paris", "Berlin", "Tokyo", "Osaka", "Lima", "Quito", "Nairobi", "Oslo", "Madrid",
    "Toronto", "Chicago", "Austin", "Seattle", "Mumbai", "Delhi", "Jakarta", "Sydney", "Auckland",
];
const ACTIONS: [&str; 6] = ["view", "click", "purchase", "add_to_cart", "search", "logout"];
const TAGS: [&str; 12] = ["a", "b", "c", "new", "sale", "mobile", "web", "eu", "us", "promo", "x1", "beta"];

/// splitmix64
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let n = from.len() as u64;
        from[usize::try_from(self.next() % n).unwrap_or(0)]
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Positions in a body of the parts that differ from event to event.
#[derive(Debug, Clone, Copy)]
pub struct Spots {
    /// Two digits for the second, a point, and three for the millisecond.
    pub second: usize,
    /// The number of the event, as twelve hexadecimal digits.
    pub number: usize,
}

/// Appends the event number `n` and a line feed.
pub fn push_event(body: &mut String, random: &mut Random, n: u64) -> Spots {
    let (seconds, millis) = ((n / 1000) % 60, n % 1000);
    body.push_str("{\"date\":\"2026-11-20T12:00:");
    let second = body.len();
    let (city, action, user) = (random.pick(&CITIES), random.pick(&ACTIONS), random.below(100_000));
    let event =
        format!("{seconds:02}.{millis:03}Z\",\"city\":\"{city}\",\"action\":\"{action}\",\"user_id\":{user}");
    body.push_str(&event);
    body.push_str(",\"session\":\"");
    let number = body.len();
    let (high, low) = (random.next(), random.next() & 0xffff);
    let session = format!("{n:012x}{high:016x}{low:04x}\"");
    body.push_str(&session);
    let (product, units, cents) = (random.below(10_000), random.below(100), random.below(100));
    let (a, b) = (random.pick(&TAGS), random.pick(&TAGS));
    let rest = format!(
        ",\"url\":\"https://example.com/products/{product}\",\"price\":{units}.{cents:02},\"tags\":[\"{a}\",\"{b}\"]}}\n"
    );
    body.push_str(&rest);
    Spots { second, number }
}

/// `rows` events as NDJSON.
pub fn events(rows: u64, seed: u64) -> String {
    let mut random = Random(seed);
    let mut body = String::new();
    for n in 0..rows {
        push_event(&mut body, &mut random, n);
    }
    body
}
