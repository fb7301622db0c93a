//! Which instruction set to use: found once, or forced, and the doors into code compiled for it.

use std::sync::OnceLock;

use super::Isa;
use super::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// An instruction set that this CPU has. A value of this type is the proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(Inner);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IsaError {
    #[error("{ISA_VARIABLE}={name:?} is not an instruction set; expected one of: {}", all_names())]
    Unknown { name: String },
    #[error("{ISA_VARIABLE}={name}: this CPU does not have it; available here: {available}")]
    Unavailable { name: &'static str, available: String },
}

/// The environment variable that forces a level.
const ISA_VARIABLE: &str = "FERROFORMER_ISA";

/// A piece of work that is generic over the instruction set.
pub(crate) trait Kernel {
    type Out;
    /// Must be `#[inline(always)]`.
    fn run<I: Isa>(self, isa: I) -> Self::Out;
}

/// One line per instruction set, best first: the features of a line are what the CPU is asked for and what
/// its door enables, so the two cannot differ. NEON's line goes here, beside an `isa/neon.rs`.
///
/// The last door is the one for kernels on floats alone: that of a line with fewer features and the same floats, so that
/// they are compiled once.
macro_rules! levels {
    ($($(#[$cfg:meta])* $level:ident $name:literal $token:ty { $($feature:tt),* } $door:ident, $floats:ident;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Inner { $($(#[$cfg])* $level,)* }

        impl Level {
            pub fn name(self) -> &'static str {
                match self.0 { $($(#[$cfg])* Inner::$level => $name,)* }
            }

            /// The levels that this CPU has, best first.
            pub fn available() -> impl Iterator<Item = Level> {
                [$($(#[$cfg])* (true $(&& std::arch::is_x86_feature_detected!($feature))*)
                    .then_some(Level(Inner::$level)),)*].into_iter().flatten()
            }
        }

        const NAMES: &[&str] = &[$($(#[$cfg])* $name,)*];

        $($(#[$cfg])*
        $(#[target_feature(enable = $feature)])*
        fn $door<K: Kernel>(kernel: K) -> K::Out {
            // SAFETY: this function enables the features of its line, and is entered only with a level that has them.
            kernel.run(unsafe { <$token>::new() })
        })*

        /// Runs a kernel on the given instruction set.
        pub(crate) fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Out {
            match level.0 {
                $($(#[$cfg])* Inner::$level => {
                    // SAFETY: a `Level` exists only where detection has found all the features of its line.
                    #[allow(unused_unsafe, reason = "the scalar door has no features")]
                    unsafe { $door(kernel) }
                })*
            }
        }

        /// Runs a kernel that computes with floats alone.
        pub(crate) fn dispatch_floats<K: Kernel>(level: Level, kernel: K) -> K::Out {
            match level.0 {
                $($(#[$cfg])* Inner::$level => {
                    // SAFETY: as above; the door's features are some of those of the line (a test looks).
                    #[allow(unused_unsafe, reason = "the scalar door has no features")]
                    unsafe { $floats(kernel) }
                })*
            }
        }

        /// (door, its features, the door for floats) of each line.
        #[cfg(test)]
        const DOORS: &[(&str, &[&str], &str)] =
            &[$($(#[$cfg])* (stringify!($door), &[$($feature),*], stringify!($floats)),)*];
    };
}

levels! {
    #[cfg(target_arch = "x86_64")] Avx512Bf16 "avx512-bf16" Avx512<true, true>
        { "avx512f", "avx512bw", "avx512dq", "avx512vnni", "avx512bf16" } avx512_bf16_door, avx512_door;
    #[cfg(target_arch = "x86_64")] Avx512Vnni "avx512-vnni" Avx512<true, false>
        { "avx512f", "avx512bw", "avx512dq", "avx512vnni" } avx512_vnni_door, avx512_door;
    #[cfg(target_arch = "x86_64")] Avx512 "avx512" Avx512<false, false>
        { "avx512f", "avx512bw", "avx512dq" } avx512_door, avx512_door;
    #[cfg(target_arch = "x86_64")] Avx2Vnni "avx2-vnni" Avx2<true>
        { "avx2", "fma", "avxvnni" } avx2_vnni_door, avx2_door;
    #[cfg(target_arch = "x86_64")] Avx2 "avx2" Avx2<false> { "avx2", "fma" } avx2_door, avx2_door;
    Scalar "scalar" Scalar {} scalar_door, scalar_door;
}

impl Level {
    /// The level of this process: what `FERROFORMER_ISA` says, else the best that the CPU has. Decided once.
    pub fn current() -> Result<Level, IsaError> {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        if let Some(level) = CURRENT.get() {
            return Ok(*level);
        }
        let level = match std::env::var(ISA_VARIABLE) {
            Ok(name) if !name.is_empty() => Level::by_name(&name)?,
            _ => Level::best(),
        };
        Ok(*CURRENT.get_or_init(|| level))
    }

    /// The first that this CPU has and is fast at.
    pub fn best() -> Level {
        Level::available().find(|level| !(level.has_bf16() && bf16_is_slow())).unwrap_or(Level(Inner::Scalar))
    }

    pub fn by_name(name: &str) -> Result<Level, IsaError> {
        if let Some(level) = Level::available().find(|level| level.name() == name) {
            return Ok(level);
        }
        match NAMES.iter().find(|known| **known == name) {
            Some(name) => Err(IsaError::Unavailable { name, available: available_names() }),
            None => Err(IsaError::Unknown { name: name.to_owned() }),
        }
    }

    /// Columns of a packed panel on this level.
    pub(crate) fn panel(self) -> usize {
        self.facts().panel
    }

    /// Whether the CPU multiplies bf16 itself.
    pub(crate) fn has_bf16(self) -> bool {
        self.facts().has_bf16
    }

    /// [`Isa::BYTE_OFFSET`].
    pub(crate) fn byte_offset(self) -> i32 {
        self.facts().byte_offset
    }

    fn facts(self) -> Facts {
        struct Ask;
        impl Kernel for Ask {
            type Out = Facts;
            #[inline(always)]
            fn run<I: Isa>(self, _isa: I) -> Facts {
                Facts { panel: I::PANEL, has_bf16: I::HAS_BF16, byte_offset: I::BYTE_OFFSET }
            }
        }
        dispatch(self, Ask)
    }
}

/// Intel's cores take `vdpbf16ps` at a quarter of the rate of multiply-adds, hence half the products (measured on Emerald Rapids,
/// 12.9 against 22.5 ms for a layer of bert-base and 128 tokens; they have AMX for bf16): widened weights are faster there.
/// AMD's take it at half the rate or at the same.
fn bf16_is_slow() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has the instruction.
        #[allow(unused_unsafe, reason = "safe from Rust 1.94 on")]
        let answer = unsafe { core::arch::x86_64::__cpuid(0) };
        [answer.ebx, answer.edx, answer.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

struct Facts {
    panel: usize,
    has_bf16: bool,
    byte_offset: i32,
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn all_names() -> String {
    NAMES.join(", ")
}

fn available_names() -> String {
    Level::available().map(Level::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_levels() {
        for level in Level::available() {
            assert_eq!(Level::by_name(level.name()), Ok(level));
        }
        assert!(Level::available().any(|level| level.name() == "scalar"));
    }

    #[test]
    fn the_best_level_is_one_of_the_first_two_and_slow_at_nothing() {
        let place = Level::available().position(|level| level == Level::best()).unwrap();
        assert!(place <= 1 && !(Level::best().has_bf16() && bf16_is_slow()));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
        let message = Level::by_name("avx9").unwrap_err().to_string();
        assert!(message.contains("avx9") && message.contains("scalar"), "{message}");
    }

    #[test]
    fn a_door_for_floats_asks_for_no_more_than_its_line() {
        for (door, features, floats) in DOORS {
            let (_, needed, _) = DOORS.iter().find(|(name, ..)| name == floats).unwrap();
            assert!(needed.iter().all(|feature| features.contains(feature)), "{door} and {floats}");
        }
    }
}
