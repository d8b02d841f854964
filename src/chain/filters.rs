//! Which logs to ask for.

use alloy::primitives::B256;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use drain_protocol::contract::DrainChannel;
use drain_protocol::{Address, ChannelId, Deployment};

/// Whose events are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Openings and closings by this account: what a recovery reads (M10).
    Consumer(Address),
    /// Everything about these channels.
    Channels(Vec<ChannelId>),
    /// Changes of token, fee and owner.
    Admin,
}

/// The filter for events of the deployments' contracts within these blocks, both included.
pub fn channel_logs_filter(deployments: &[Deployment], watched: &Watched, first: u64, last: u64) -> Filter {
    let contracts: Vec<Address> = deployments.iter().map(Deployment::contract).collect();
    let filter = Filter::new().address(contracts).from_block(first).to_block(last);
    match watched {
        Watched::Consumer(consumer) => filter
            .event_signature(vec![
                DrainChannel::ChannelOpened::SIGNATURE_HASH,
                DrainChannel::ChannelClosed::SIGNATURE_HASH,
            ])
            .topic2(consumer.into_word()),
        Watched::Channels(ids) => filter
            .event_signature(vec![
                DrainChannel::ChannelOpened::SIGNATURE_HASH,
                DrainChannel::ChannelClaimed::SIGNATURE_HASH,
                DrainChannel::ChannelClosed::SIGNATURE_HASH,
                DrainChannel::FeePaid::SIGNATURE_HASH,
            ])
            // An empty list would mean any channel.
            .topic1(if ids.is_empty() { vec![B256::ZERO] } else { ids.iter().map(|id| id.0).collect::<Vec<_>>() }),
        Watched::Admin => filter.event_signature(vec![
            DrainChannel::USDCUpdated::SIGNATURE_HASH,
            DrainChannel::FeeUpdated::SIGNATURE_HASH,
            DrainChannel::OwnershipRenounced::SIGNATURE_HASH,
            DrainChannel::Swept::SIGNATURE_HASH,
        ]),
    }
}

#[cfg(test)]
mod tests {
    use drain_protocol::deployment::{POLYGON, builtin};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_consumers_channels_are_found_by_the_second_topic() {
        let vectors: Value = serde_json::from_str(include_str!("../../protocol/vectors.json")).unwrap();
        let wanted = &vectors["getLogsFilterForConsumerRecovery"]["topics"];
        let consumer = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266".parse().unwrap();
        let filter = channel_logs_filter(&builtin(POLYGON), &Watched::Consumer(consumer), 0, 9);
        let filter = serde_json::to_value(filter).unwrap();
        assert!(filter["topics"][0].as_array().unwrap().contains(&wanted[0]));
        assert_eq!(filter["topics"][1], Value::Null);
        assert_eq!(filter["topics"][2], wanted[2]);
        assert_eq!((&filter["fromBlock"], &filter["toBlock"]), (&json!("0x0"), &json!("0x9")));
        assert_eq!(filter["address"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn no_channels_is_not_every_channel() {
        let filter = channel_logs_filter(&builtin(POLYGON), &Watched::Channels(vec![]), 0, 9);
        assert_eq!(serde_json::to_value(filter).unwrap()["topics"][1], json!(B256::ZERO));
    }
}
