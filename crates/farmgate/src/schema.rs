//! `farmgate schema`: the formats that people write, for their editors.

use std::io::{self, Write};

use clap::ValueEnum;

/// A format that has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// The job description.
    Job,
    /// The REST API, as an OpenAPI document.
    Api,
}

/// Prints the JSON Schema of a format.
///
/// # Errors
/// The output cannot be written. That a reader went away is none.
pub fn print(format: Format) -> io::Result<()> {
    let schema = match format {
        Format::Job => farmgate_job::schema(),
        Format::Api => crate::api::openapi(),
    };
    match io::stdout().lock().write_all(format!("{schema:#}\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
