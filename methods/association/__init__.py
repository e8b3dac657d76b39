"""Association across modalities (and reliability of labels) as pure functions of tensors."""
