"""What several networks share: the contract of a network, normalisations, blocks."""
