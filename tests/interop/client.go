// A client of grpc-go; clients.py tells what it is told on its standard input and what it answers.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw passes messages as they are.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) Name() string                               { return "proto" }

type outcome struct {
	answer []byte
	err    error
}

func ask(conn *grpc.ClientConn, method string, millis int, how string, body []byte) outcome {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "tenant", "a", "blob-bin", "\x00\xff")
	if millis > 0 {
		limited, end := context.WithTimeout(ctx, time.Duration(millis)*time.Millisecond)
		defer end()
		ctx = limited
	}
	options := []grpc.CallOption{grpc.ForceCodec(raw{})}
	switch how {
	case "gzip":
		options = append(options, grpc.UseCompressor("gzip"))
	case "cancel":
		time.AfterFunc(100*time.Millisecond, cancel)
	}
	var answer []byte
	err := conn.Invoke(ctx, method, &body, &answer, options...)
	return outcome{answer, err}
}

func carryOut(conn *grpc.ClientConn, order []string) error {
	body, err := os.ReadFile(order[4])
	if err != nil {
		return err
	}
	millis, _ := strconv.Atoi(order[1])
	count, _ := strconv.Atoi(order[3])
	outcomes := make([]outcome, count)
	var calls sync.WaitGroup
	calls.Add(count)
	for i := range outcomes {
		go func(i int) {
			defer calls.Done()
			outcomes[i] = ask(conn, order[0], millis, order[2], body)
		}(i)
	}
	calls.Wait()
	codes := map[int]int{}
	for _, each := range outcomes {
		codes[int(status.Code(each.err))]++
	}
	var written []string
	for code, number := range codes {
		written = append(written, fmt.Sprintf("%d:%d", code, number))
	}
	last := outcomes[count-1]
	message := status.Convert(last.err).Message()
	fmt.Printf("%s\t%s\n", strings.Join(written, " "), hex.EncodeToString([]byte(message)))
	return os.WriteFile(order[5], last.answer, 0o600)
}

func main() {
	conn, err := grpc.Dial(os.Args[1], grpc.WithInsecure(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := carryOut(conn, strings.Split(lines.Text(), "\t")); err != nil {
			panic(err)
		}
	}
}
