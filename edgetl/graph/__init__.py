"""The folded network as data: convolutions with their BatchNorms inside, before any grid is put on them."""
