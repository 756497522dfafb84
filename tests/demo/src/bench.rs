//! How fast pilotguard reacts.

pub(crate) async fn measure(_runs: u32, _requests: u32) -> anyhow::Result<()> {
    Ok(())
}
