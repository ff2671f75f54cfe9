//! A test process of a runner that starts one for each test: attaches to the session of its run, says which, and stays
//! until its input ends.

use std::io::{Read as _, Write as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = envctl::session::shared()?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", session.id())?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
