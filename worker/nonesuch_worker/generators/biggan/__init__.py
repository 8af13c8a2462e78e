"""The family `biggan`: BigGAN-deep of pytorch-pretrained-biggan, from a local folder."""
