//! Roles and what each may do: a table without I/O. Who has which role is decided in `callers`, what a request needs
//! stands beside it in `endpoints`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What somebody may do. A higher one may do everything that a lower one may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but tokens, the audit log and what machines boot.
    Viewer,
    /// Submit jobs, and attach to or cancel one's own.
    User,
    /// Everything.
    Admin,
}

impl Role {
    /// The word on the wire and in the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::User, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role: write viewer, user or admin"))
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// That role.
    Role(Role),
    /// [`Role::User`] for the run `{id}` if it is one's own, or its resume token; [`Role::Admin`] for another's.
    OwnRun,
    /// [`Role::Viewer`] for the run `{id}`, or its resume token.
    SeeRun,
    /// [`Role::User`] if the run on the machine `{id}` is one's own; [`Role::Admin`] for another's.
    OwnRunOnDut,
}

impl Need {
    /// The least role with which this can ever be done.
    pub const fn least(self) -> Role {
        match self {
            Self::Role(role) => role,
            Self::SeeRun => Role::Viewer,
            Self::OwnRun | Self::OwnRunOnDut => Role::User,
        }
    }

    /// Whether that role does for it, whoever it is about. None: it depends on whose run it is.
    pub fn met_by(self, role: Role) -> Option<bool> {
        match self {
            Self::OwnRun | Self::OwnRunOnDut if role == Role::User => None,
            need => Some(role >= need.least()),
        }
    }

    /// In words, for the manual and the OpenAPI document.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Role(Role::Viewer) => "viewer",
            Self::Role(Role::User) => "user",
            Self::Role(Role::Admin) => "admin",
            Self::SeeRun => "viewer, or the run's resume token",
            Self::OwnRun => "user for one's own run, or its resume token; admin for another's",
            Self::OwnRunOnDut => "user if the run is one's own; admin for another's",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_role_may_do_what_a_lower_one_may() {
        let all = [Role::Viewer, Role::User, Role::Admin];
        for need in all {
            for role in all {
                assert_eq!(Need::Role(need).met_by(role), Some(role >= need), "{role} for {need}");
            }
        }
    }

    #[test]
    fn a_user_may_end_only_what_is_theirs() {
        for need in [Need::OwnRun, Need::OwnRunOnDut] {
            assert_eq!(need.met_by(Role::Viewer), Some(false));
            assert_eq!(need.met_by(Role::User), None, "it depends on whose run it is");
            assert_eq!(need.met_by(Role::Admin), Some(true));
        }
        assert_eq!(Need::SeeRun.met_by(Role::Viewer), Some(true));
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in [Role::Viewer, Role::User, Role::Admin] {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<Role>().unwrap_err().contains("viewer, user or admin"));
    }
}
