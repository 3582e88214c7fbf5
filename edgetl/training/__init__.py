"""The training loop that the finetune, distill and quantize stages share."""
