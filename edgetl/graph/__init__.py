"""The folded network as data: convolutions with their BatchNorms inside, before quantization."""
