"""CA-Jaccard (Chen et al., CVPR 2024, arXiv 2311.10605), brought to visible + infrared.

A distance: reciprocal neighbours and query expansion look at the sample's own camera and at the other cameras
apart. The training around it is cluster contrast's, unchanged. On RegDB, where each modality has one camera, the
distance becomes modality-aware.
"""

from __future__ import annotations

from methods.base import Epoch, FeatureBank, Reference, setting
from methods.cluster_contrast import OneStageContrast, OneStageContrastConfig
from methods.clustering import CameraAware, Clustering, camera_aware_clusters
from methods.parts.training import DEMO


class CAJaccardConfig(OneStageContrastConfig):
    """Hyper-parameters of CA-Jaccard (methods-spec section 4); defaults are SYSU-MM01's."""

    k1_intra: int = setting(5, "published code", "neighbours of the same camera in the reciprocal test", ge=1)
    k1_inter: int = setting(
        20,
        "published code",
        "neighbours of other cameras in the reciprocal test; one more is used (quirk Q19)",
        ge=1,
    )
    k2_intra: int = setting(
        2, "published code", "expansion neighbours of the same camera, the sample included", ge=0
    )
    k2_inter: int = setting(4, "published code", "expansion neighbours of other cameras", ge=0)
    warm_up_k2: int = setting(
        3,
        "published code",
        "both numbers of expansion neighbours in the first epoch (quirk Q20); 0: no warm-up",
        ge=0,
    )
    fill_lists: bool = setting(
        False,
        "reconstructed",
        "lists of small cameras go on with samples of the wrong side, as in the public code (quirk Q21)",
    )


class CAJaccard(OneStageContrast):
    """Cluster contrast on camera-aware Jaccard distances."""

    name = "ca-jaccard"
    summary = "cluster contrast on camera-aware Jaccard distances"
    Config = CAJaccardConfig
    config: CAJaccardConfig
    reference = Reference(
        title="CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification",
        venue="CVPR, arXiv 2311.10605",
        year=2024,
        parts={
            "distance, its neighbour counts": "published code; short lists stay short (Q21; public fills them)",
            "memory, loss, optimiser": "published code: cluster contrast's, unchanged",
            "two-stream backbone, 288 x 144, both modalities in one set": "adapted: no public reference",
            "cameras on RegDB": "adapted: one per modality, so that other cameras are the other modality",
            "bn_chunks of the preset public": "reconstructed: four devices, as the descendants' codes use",
            "eps on RegDB": "adapted: the value of cluster contrast's visible-infrared descendants",
        },
    )
    presets = {
        "paper": {"sysu-mm01": {}, "regdb": {"eps": 0.3, "iterations": 100}},
        "demo": {
            "*": {**DEMO, "epochs": 10, "labels_per_batch": 8},
            "regdb": {"k1_intra": 5, "k1_inter": 9, "k2_intra": 2, "k2_inter": 2, "eps": 0.5},
            "sysu-mm01": {"k1_intra": 2, "k1_inter": 12, "k2_intra": 2, "k2_inter": 3, "eps": 0.55},
        },
        "joint": {"*": {"spaces": "joint"}},
        "dual": {"*": {"spaces": "dual"}},
        "3+3": {"*": {"k2_intra": 3, "k2_inter": 3}},
        "public": {"*": {"bn_chunks": 4, "fill_lists": True}},
    }

    def neighbourhood(self, epoch: Epoch) -> dict[str, float]:
        """Return the neighbour counts of an epoch, for the history and for messages."""
        k2_intra, k2_inter = self._k2(epoch)
        c = self.config
        counts = {"k1_intra": c.k1_intra, "k1_inter": c.k1_inter, "k2_intra": k2_intra, "k2_inter": k2_inter}
        return {name: float(count) for name, count in counts.items()}

    def _k2(self, epoch: Epoch) -> tuple[int, int]:
        warm_up = self.config.warm_up_k2
        return (
            (warm_up, warm_up)
            if warm_up and epoch.number == 0
            else (self.config.k2_intra, self.config.k2_inter)
        )

    def cluster(self, bank: FeatureBank, epoch: Epoch) -> Clustering:
        """Cluster a bank by CA-Jaccard distances."""
        c = self.config
        settings = CameraAware(bank.camera, c.k1_intra, c.k1_inter, *self._k2(epoch), c.fill_lists)
        return camera_aware_clusters(bank.features, settings, eps=c.eps, min_samples=c.min_samples)
