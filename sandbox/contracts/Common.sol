// SPDX-License-Identifier: MIT
pragma solidity 0.8.28;

interface IToken {
    function balanceOf(address account) external view returns (uint256);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// What both generations of the payment channel share: opening, claiming, closing
/// after expiry, the signature rule and the owner's token switch.
abstract contract ChannelBase {
    struct Channel {
        address consumer;
        address provider;
        uint256 deposit;
        uint256 claimed;
        uint256 expiry;
    }

    bytes32 public constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 public constant VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 channelId,uint256 amount,uint256 nonce)");

    /// Half of the secp256k1 group order: above it a signature has a second form.
    uint256 private constant HALF_ORDER =
        0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    bytes32 public immutable DOMAIN_SEPARATOR;

    address public owner;
    IToken public usdc;
    mapping(bytes32 => Channel) public channels;
    /// Channels opened so far by each consumer.
    mapping(address => uint256) public nonces;

    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed consumer,
        address indexed provider,
        uint256 deposit,
        uint256 expiry
    );
    event ChannelClaimed(bytes32 indexed channelId, address indexed provider, uint256 amount);
    event ChannelClosed(bytes32 indexed channelId, address indexed consumer, uint256 refund);
    event USDCUpdated(address indexed oldToken, address indexed newToken);
    event OwnershipRenounced(address indexed previousOwner);

    error NotOwner();
    error ZeroAddress();
    error ChannelExists();
    error ChannelNotFound();
    error NotProvider();
    error NotConsumer();
    error NotExpired();
    error InvalidSignature();
    error InvalidAmount();
    error TransferFailed();

    modifier onlyOwner() {
        if (msg.sender != owner) revert NotOwner();
        _;
    }

    constructor(address token) {
        if (token == address(0)) revert ZeroAddress();
        owner = msg.sender;
        usdc = IToken(token);
        DOMAIN_SEPARATOR = keccak256(
            abi.encode(
                DOMAIN_TYPEHASH,
                keccak256("DrainChannel"),
                keccak256("1"),
                block.chainid,
                address(this)
            )
        );
    }

    function open(address provider, uint256 amount, uint256 duration)
        external
        returns (bytes32 channelId)
    {
        if (amount == 0) revert InvalidAmount();
        if (provider == address(0)) revert ZeroAddress();
        uint256 nonce = nonces[msg.sender]++;
        uint256 expiry = block.timestamp + duration;
        channelId = keccak256(abi.encodePacked(msg.sender, provider, block.timestamp, nonce));
        if (channels[channelId].consumer != address(0)) revert ChannelExists();
        channels[channelId] = Channel(msg.sender, provider, amount, 0, expiry);
        _locked(amount);
        if (!usdc.transferFrom(msg.sender, address(this), amount)) revert TransferFailed();
        emit ChannelOpened(channelId, msg.sender, provider, amount, expiry);
    }

    /// The nonce only binds the signature: order and reuse are the provider's business.
    function claim(bytes32 channelId, uint256 amount, uint256 nonce, bytes calldata signature)
        external
    {
        Channel storage channel = channels[channelId];
        if (channel.consumer == address(0)) revert ChannelNotFound();
        if (msg.sender != channel.provider) revert NotProvider();
        if (amount > channel.deposit) revert InvalidAmount();
        if (amount <= channel.claimed) revert InvalidAmount();
        bytes32 body = keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, amount, nonce));
        if (_signer(body, signature) != channel.consumer) revert InvalidSignature();

        uint256 payout = amount - channel.claimed;
        channel.claimed = amount;
        _released(payout);
        _pay(channelId, msg.sender, payout);
    }

    function close(bytes32 channelId) external {
        Channel memory channel = channels[channelId];
        if (channel.consumer == address(0)) revert ChannelNotFound();
        if (msg.sender != channel.consumer) revert NotConsumer();
        if (block.timestamp < channel.expiry) revert NotExpired();

        uint256 refund = channel.deposit - channel.claimed;
        delete channels[channelId];
        _released(refund);
        _send(channel.consumer, refund);
        emit ChannelClosed(channelId, channel.consumer, refund);
    }

    function getChannel(bytes32 channelId) external view returns (Channel memory) {
        return channels[channelId];
    }

    function getBalance(bytes32 channelId) external view returns (uint256) {
        Channel storage channel = channels[channelId];
        return channel.deposit - channel.claimed;
    }

    function isImmutable() external view returns (bool) {
        return owner == address(0);
    }

    function setUSDC(address token) external onlyOwner {
        if (token == address(0)) revert ZeroAddress();
        emit USDCUpdated(address(usdc), token);
        usdc = IToken(token);
    }

    function renounceOwnership() external onlyOwner {
        emit OwnershipRenounced(owner);
        owner = address(0);
    }

    /// Bookkeeping hooks: only the second generation counts what it owes.
    function _locked(uint256 amount) internal virtual;
    function _released(uint256 amount) internal virtual;

    /// Pays a provider and logs the claim.
    function _pay(bytes32 channelId, address provider, uint256 payout) internal virtual;

    function _send(address to, uint256 amount) internal {
        if (amount > 0 && !usdc.transfer(to, amount)) revert TransferFailed();
    }

    /// Exactly 65 bytes, low s, v of 27 or 28; anything else has no signer.
    function _signer(bytes32 body, bytes calldata signature) internal view returns (address signer) {
        if (signature.length != 65) revert InvalidSignature();
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        if (uint256(s) > HALF_ORDER) revert InvalidSignature();
        if (v != 27 && v != 28) revert InvalidSignature();
        signer = ecrecover(keccak256(abi.encodePacked("\x19\x01", DOMAIN_SEPARATOR, body)), v, r, s);
        if (signer == address(0)) revert InvalidSignature();
    }
}
