//! stub
use super::exit::Exit;
use super::session::Session;
use crate::error::Failure;
/// x
#[derive(Debug, clap::Args)]
pub struct Args {}
pub(super) async fn run(_: Args, _s: &mut Session) -> Result<Exit, Failure> {
    Ok(Exit::Ok)
}
