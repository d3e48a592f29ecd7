//! Enumerations whose variants are words of the job language.
//!
//! The word is written once: it is what the reader accepts, what error messages offer and what is stored.

/// Declares an enumeration of words. The first spelling of a variant is its name; the others are accepted too.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[$doc:meta])* $variant:ident = $word:literal $(| $alias:literal)* ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[$doc])* #[serde(rename = $word)] $variant ),+
        }

        impl $name {
            /// The words of all variants, without their other spellings.
            pub const ALL: &[&str] = &[$($word),+];

            /// The variant of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $( $word $(| $alias)* => Some(Self::$variant), )+
                    _ => None,
                }
            }

            /// The word of the variant.
            pub const fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }
    };
}

pub(crate) use words;
