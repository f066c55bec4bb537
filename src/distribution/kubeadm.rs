//! kubeadm (and kind): static pods, and the kubeadm-config ConfigMap.
