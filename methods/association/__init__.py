"""Association across modalities, and the reliability of labels: pure functions of tensors.

Matching of clusters (PGM, RPNR), transport of labels (OTLA), soft labels from neighbours (N-ULC), density prototypes
(RPNR), counts and votes (ADCA, GUR, MPJL), mutual neighbours (ECUL), embeddings by memories (GUR), and which clusters
survive other radii (SpCL). Features and labels in, labels, partners or moved rows out; no networks, no losses, and no
state but what a caller holds.
"""
