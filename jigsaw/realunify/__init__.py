"""RealUnify: whether making pictures helps understanding, and whether understanding helps making them."""
