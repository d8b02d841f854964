// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {ChannelBase} from "./Common.sol";

/// First generation: no fee, closing only after expiry.
contract DrainChannel is ChannelBase {
    /// Declared by the deployed contract, raised by nothing.
    error NoOwner();

    constructor(address token) ChannelBase(token) {}

    function _locked(uint256) internal override {}

    function _released(uint256) internal override {}

    function _pay(bytes32 channelId, address provider, uint256 payout) internal override {
        _send(provider, payout);
        emit ChannelClaimed(channelId, provider, payout);
    }
}
