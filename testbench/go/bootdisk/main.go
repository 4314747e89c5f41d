// A containerd snapshotter that finds layers on a secondary boot disk: `bootdisk SOCKET ROOT DISK`.
//
// Round containerd's own overlayfs snapshotter. When an image is unpacked and a layer's chain ID is listed in
// DISK/snapshots.metadata, the layer's folder becomes a link to the disk and containerd is told that it exists:
// its blob is never fetched. This is what can be seen of GKE's closed snapshotter from outside, log line included;
// how GKE does it inside is not known here.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
)

const (
	// onDisk marks a committed snapshot whose files lie on the disk; the prefix makes containerd keep the label.
	onDisk      = "containerd.io/snapshot/llm-release.bootdisk"
	imageRef    = "containerd.io/snapshot/cri.image-ref"
	imageLayers = "containerd.io/snapshot/cri.image-layers"
)

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds)
	if len(os.Args) != 4 {
		log.Fatal("usage: bootdisk SOCKET ROOT DISK")
	}
	if err := serve(os.Args[1], os.Args[2], filepath.Clean(os.Args[3])); err != nil {
		log.Fatal(err)
	}
}

func serve(socket, root, disk string) error {
	layers, err := read(disk)
	if err != nil {
		// As on GKE: the node works, and every layer comes from the registry.
		log.Printf("the disk is not used: %v", err)
	}
	inner, err := overlay.NewSnapshotter(root)
	if err != nil {
		return err
	}
	defer inner.Close()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	service := snapshotservice.FromSnapshotter(&bootDisk{Snapshotter: inner, layers: layers})
	snapshotsapi.RegisterSnapshotsServer(server, service)
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ends
		server.Stop()
	}()
	log.Printf("serving %d layers of %s", len(layers), disk)
	return server.Serve(listener)
}

// read gives the folder of every layer on the disk by its chain ID.
func read(disk string) (map[string]string, error) {
	file, err := os.Open(filepath.Join(disk, "snapshots.metadata"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	layers := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			return nil, fmt.Errorf("snapshots.metadata: not a layer: %q", lines.Text())
		}
		folder := filepath.Join(disk, words[1])
		status, err := os.Stat(folder)
		if err != nil || !status.IsDir() || !strings.HasPrefix(folder, disk+"/snapshots/") {
			return nil, fmt.Errorf("snapshots.metadata: %s is no folder of the disk", words[1])
		}
		layers[words[0]] = folder
	}
	return layers, lines.Err()
}

type bootDisk struct {
	snapshots.Snapshotter
	layers map[string]string
}

// Prepare is asked with the chain ID of a layer before that layer is fetched.
func (b *bootDisk) Prepare(
	ctx context.Context, key, parent string, options ...snapshots.Opt,
) ([]mount.Mount, error) {
	var asked snapshots.Info
	for _, option := range options {
		if err := option(&asked); err != nil {
			return nil, err
		}
	}
	chain := asked.Labels[snapshots.LabelSnapshotRef]
	folder, found := b.layers[chain]
	if !found {
		if chain != "" {
			b.tell(ctx, asked.Labels, parent, false)
		}
		return b.Snapshotter.Prepare(ctx, key, parent, options...)
	}
	if err := b.link(ctx, key, parent, chain, folder, options); err != nil {
		return nil, fmt.Errorf("layer %s on the boot disk: %w", chain, err)
	}
	b.tell(ctx, asked.Labels, parent, true)
	return nil, fmt.Errorf("layer %s is on the boot disk: %w", chain, errdefs.ErrAlreadyExists)
}

// link commits a snapshot whose folder of files is a link to the disk.
func (b *bootDisk) link(
	ctx context.Context, key, parent, chain, folder string, options []snapshots.Opt,
) (err error) {
	mounts, err := b.Snapshotter.Prepare(ctx, key, parent, options...)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Snapshotter.Remove(ctx, key))
		}
	}()
	files, err := upper(mounts)
	if err != nil {
		return err
	}
	if err := os.Remove(files); err != nil {
		return err
	}
	if err := os.Symlink(folder, files); err != nil {
		return err
	}
	kept := append(options, snapshots.WithLabels(map[string]string{onDisk: folder}))
	// The same layer may lie above different parents: a name of its own for each, found by its label.
	err = b.Snapshotter.Commit(ctx, chain+"/"+parent, key, kept...)
	if errdefs.IsAlreadyExists(err) {
		return b.Snapshotter.Remove(ctx, key)
	}
	return err
}

// upper is the folder that a prepared snapshot's files are written to.
func upper(mounts []mount.Mount) (string, error) {
	for _, m := range mounts {
		if m.Type == "bind" {
			return m.Source, nil
		}
		for _, option := range m.Options {
			if folder, found := strings.CutPrefix(option, "upperdir="); found {
				return folder, nil
			}
		}
	}
	return "", fmt.Errorf("no upper folder among %v", mounts)
}

// tell says once per image, at its top layer, how much of it is on the disk, in the words of GKE's snapshotter.
// Layers below are counted along the parents: those that containerd knew already were not asked for.
func (b *bootDisk) tell(ctx context.Context, labels map[string]string, parent string, found bool) {
	image := labels[imageRef]
	if image == "" || strings.Contains(labels[imageLayers], ",") {
		return
	}
	all, hits := 1, 0
	if found {
		hits = 1
	}
	for below := parent; below != ""; all++ {
		info, err := b.Snapshotter.Stat(ctx, below)
		if err != nil {
			log.Printf("layers of %s could not be counted: %v", image, err)
			return
		}
		if info.Labels[onDisk] != "" {
			hits++
		}
		below = info.Parent
	}
	share := 100 * float64(hits) / float64(all)
	log.Printf(
		"Image %s is backed by secondary boot disk caching by %.1f%% (%d/%d layers), by image streaming by %.1f%%",
		image, share, hits, all, 100-share,
	)
}
