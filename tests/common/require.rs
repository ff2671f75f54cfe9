//! What a test needs of the machine. Absent, the test says so and passes; with `ENVCTL_REQUIRE=all` it fails.

/// `true` if `met`; otherwise says what is missing, and fails where everything is required.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn require(met: bool, what: &str) -> bool {
    if met {
        return true;
    }
    assert!(std::env::var("ENVCTL_REQUIRE").as_deref() != Ok("all"), "ENVCTL_REQUIRE=all, but {what} is missing");
    eprintln!("skipped: {what} is missing");
    false
}
