"""RealUnify: whether image generation helps understanding, and whether understanding helps generation."""
