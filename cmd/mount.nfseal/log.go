package main

import (
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// openLog gives a logger that appends to the file at path, and a function that ends it. Where the file can't
// be had, nothing is logged: a mount doesn't fail for that.
func openLog(path string) (*zap.Logger, func()) {
	f := openLogFile(path)
	if f == nil {
		return zap.NewNop(), func() {}
	}
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeLevel = zapcore.CapitalLevelEncoder
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.AddSync(f), zap.InfoLevel)
	log := zap.New(core).With(zap.Int("pid", os.Getpid()))
	return log, func() { f.Close() }
}

// openLogFile opens the file at path to append to it, or gives nil.
func openLogFile(path string) *os.File {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil
	}
	return f
}
