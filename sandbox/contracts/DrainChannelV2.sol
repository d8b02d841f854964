// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

import {ChannelBase} from "./Common.sol";

/// Second generation: a fee on what providers receive, closing by agreement at
/// any time, and a count of what is owed so that the owner can take only the rest.
contract DrainChannelV2 is ChannelBase {
    bytes32 public constant CLOSE_TYPEHASH =
        keccak256("CloseAuthorization(bytes32 channelId,uint256 finalAmount)");
    uint256 private constant MAX_FEE_BPS = 1000;
    uint256 private constant BPS = 10000;

    address public feeRecipient;
    uint256 public feeBps;
    uint256 public totalLocked;

    event FeePaid(bytes32 indexed channelId, address indexed recipient, uint256 amount);
    event FeeUpdated(address indexed recipient, uint256 bps);
    event Swept(address indexed to, uint256 amount);

    error FeeTooHigh();
    error NoExcess();

    constructor(address token, address recipient, uint256 bps) ChannelBase(token) {
        _setFee(recipient, bps);
    }

    function cooperativeClose(bytes32 channelId, uint256 finalAmount, bytes calldata providerSignature)
        external
    {
        Channel memory channel = channels[channelId];
        if (channel.consumer == address(0)) revert ChannelNotFound();
        if (msg.sender != channel.consumer) revert NotConsumer();
        if (finalAmount > channel.deposit) revert InvalidAmount();
        if (finalAmount < channel.claimed) revert InvalidAmount();
        bytes32 body = keccak256(abi.encode(CLOSE_TYPEHASH, channelId, finalAmount));
        if (_signer(body, providerSignature) != channel.provider) revert InvalidSignature();

        uint256 payout = finalAmount - channel.claimed;
        uint256 refund = channel.deposit - finalAmount;
        delete channels[channelId];
        _released(payout + refund);
        if (payout > 0) _pay(channelId, channel.provider, payout);
        _send(channel.consumer, refund);
        emit ChannelClosed(channelId, channel.consumer, refund);
    }

    function setFee(address recipient, uint256 bps) external onlyOwner {
        _setFee(recipient, bps);
    }

    function sweep() external onlyOwner {
        uint256 held = usdc.balanceOf(address(this));
        if (held <= totalLocked) revert NoExcess();
        uint256 excess = held - totalLocked;
        _send(owner, excess);
        emit Swept(owner, excess);
    }

    function _setFee(address recipient, uint256 bps) private {
        if (bps > MAX_FEE_BPS) revert FeeTooHigh();
        if (bps > 0 && recipient == address(0)) revert ZeroAddress();
        feeRecipient = recipient;
        feeBps = bps;
        emit FeeUpdated(recipient, bps);
    }

    function _locked(uint256 amount) internal override {
        totalLocked += amount;
    }

    function _released(uint256 amount) internal override {
        totalLocked -= amount;
    }

    /// The fee comes out of the provider's part; the log carries the gross amount.
    function _pay(bytes32 channelId, address provider, uint256 payout) internal override {
        uint256 fee = 0;
        if (feeBps > 0 && feeRecipient != address(0)) {
            fee = (payout * feeBps) / BPS;
        }
        if (fee > 0) {
            _send(feeRecipient, fee);
            emit FeePaid(channelId, feeRecipient, fee);
        }
        _send(provider, payout - fee);
        emit ChannelClaimed(channelId, provider, payout);
    }
}
