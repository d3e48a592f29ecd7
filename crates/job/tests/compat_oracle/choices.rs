//! Where the generator's choices come from, and which of them it may make.

use std::sync::OnceLock;

/// A reproducible source of choices (SplitMix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to one less than `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What differs today from Jinja2 and PyYAML (see docs/compat.md), and whether the generator writes it.
pub(crate) struct Differences {
    /// Undefined values as operands of `first`, `last`, `length`, slices, `.get()`, as arguments of macros, and inside of
    /// printed lists.
    pub(crate) undefined_operands: bool,
    /// Options of `truncate` and `dictsort` without their names.
    pub(crate) positional_options: bool,
    /// Slices of a name inside of a macro or a call block.
    pub(crate) slices_in_calls: bool,
    /// Letters beyond ASCII through `tojson`.
    pub(crate) tojson_of_unicode: bool,
    /// `[::-1]` of a list that may be empty.
    pub(crate) reversed_slices: bool,
    /// `.title()` of a text with signs between its letters.
    pub(crate) title: bool,
    /// A block scalar that ends the text, whose last newline the template takes away.
    pub(crate) block_at_the_end: bool,
}

/// What is known to differ is written only with `FARMGATE_ORACLE_ALL=1`.
pub(crate) fn writes() -> &'static Differences {
    static WRITES: OnceLock<Differences> = OnceLock::new();
    WRITES.get_or_init(|| {
        let all = std::env::var("FARMGATE_ORACLE_ALL").is_ok_and(|value| value == "1");
        Differences {
            undefined_operands: all,
            positional_options: true,
            slices_in_calls: true,
            tojson_of_unicode: true,
            reversed_slices: true,
            title: true,
            block_at_the_end: true,
        }
    })
}

/// Words that a job may hold.
pub(crate) const WORDS: [&str; 12] = [
    "quiet",
    "amdgpu",
    "b2c.cache_device",
    "ttyUSB0",
    "a-b-c",
    "x86_64",
    "1.5",
    "Mixed.Case",
    "/dev/sda1",
    "k=v",
    "10.42.0.1",
    "v1",
];

/// Texts that may stand only where any text may.
pub(crate) const WILD: [&str; 9] = [
    "it's",
    "say \"hi\"",
    "back\\slash",
    "a: b # c",
    "żółć ☂",
    "%s {} 100%",
    "tab\there",
    " lead",
    "both ' and \"",
];
