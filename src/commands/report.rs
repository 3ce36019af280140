//! `report`: finished runs side by side.

pub fn run(_: crate::cli::ReportArgs) -> anyhow::Result<()> {
    Ok(())
}
