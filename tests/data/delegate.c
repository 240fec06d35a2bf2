/* An external delegate for tests: computes every float FULLY_CONNECTED without activation, really.
 *
 * The declarations follow the documented C interface of TensorFlow Lite (tensorflow/lite/core/c/common.h
 * and delegates/external/external_delegate_interface.h), as far as they are needed: no wheel has the
 * headers. Members are named where they are used; the others only keep the places.
 *
 * Option "mode": compute (default), wrong (one too much), nothing (takes no operator), refuse,
 * fail-prepare, fail-invoke, talk, crash, crash-prepare, crash-invoke, hang,
 * hang-invoke (while there is a file of the name in $HANG_WHILE). Other options are refused.
 * Compiled with -DINCOMPLETE, it lacks tflite_plugin_create_delegate.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1 };
enum { FLOAT32 = 1 };
enum { FULLY_CONNECTED = 9 };

typedef struct {
    int size;
    int data[];
} TfLiteIntArray;

typedef struct {
    int type;
    void *data;
    TfLiteIntArray *dims;
    struct {
        float scale;
        int32_t zero_point;
    } params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int buffer_handle;
    bool data_is_stale, is_variable;
    struct {
        int type;
        void *params;
    } quantization;
    void *sparsity;
    const TfLiteIntArray *dims_signature;
} TfLiteTensor;

typedef struct {
    TfLiteIntArray *inputs, *outputs, *intermediates, *temporaries;
    void *user_data, *builtin_data;
} TfLiteNode;

typedef struct TfLiteContext TfLiteContext;
typedef struct TfLiteDelegate TfLiteDelegate;

typedef struct {
    void *(*init)(TfLiteContext *, const char *buffer, size_t length);
    void (*free)(TfLiteContext *, void *buffer);
    int (*prepare)(TfLiteContext *, TfLiteNode *);
    int (*invoke)(TfLiteContext *, TfLiteNode *);
    const char *(*profiling_string)(const TfLiteContext *, const TfLiteNode *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *registration_external, *async_kernel;
    uint64_t inplace_operator;
} TfLiteRegistration;

struct TfLiteContext {
    size_t tensors_size;
    int (*GetExecutionPlan)(TfLiteContext *, TfLiteIntArray **);
    TfLiteTensor *tensors;
    void *impl;
    void *ResizeTensor;
    void (*ReportError)(TfLiteContext *, const char *message, ...);
    void *AddTensors;
    int (*GetNodeAndRegistration)(TfLiteContext *, int index, TfLiteNode **, TfLiteRegistration **);
    int (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext *, TfLiteRegistration,
                                                 const TfLiteIntArray *nodes, TfLiteDelegate *);
};

struct TfLiteDelegate {
    void *data;
    int (*Prepare)(TfLiteContext *, TfLiteDelegate *);
    void *CopyFromBufferHandle, *CopyToBufferHandle, *FreeBufferHandle;
    int64_t flags;
    void *opaque_delegate_builder;
};

/* The builtin data of a node that replaces others. */
typedef struct {
    TfLiteDelegate *delegate;
    TfLiteIntArray *nodes, *inputs, *outputs;
} TfLiteDelegateParams;

typedef struct {
    TfLiteDelegate delegate;
    char mode[32];
} Delegate;

/* One node that the delegate took: its tensors. The last of a partition has an output of -1. */
typedef struct {
    int input, weights, bias, output;
    const Delegate *delegate;
} Kernel;

static bool is_mode(const Delegate *delegate, const char *mode) {
    return strcmp(delegate->mode, mode) == 0;
}

static void *kernel_init(TfLiteContext *context, const char *buffer, size_t length) {
    const TfLiteDelegateParams *params = (const TfLiteDelegateParams *)buffer;
    Kernel *kernels = calloc((size_t)params->nodes->size + 1, sizeof(Kernel));
    (void)length;
    for (int i = 0; i < params->nodes->size; i++) {
        TfLiteNode *node;
        TfLiteRegistration *registration;
        context->GetNodeAndRegistration(context, params->nodes->data[i], &node, &registration);
        kernels[i] = (Kernel){node->inputs->data[0], node->inputs->data[1],
                              node->inputs->size > 2 ? node->inputs->data[2] : -1,
                              node->outputs->data[0], (const Delegate *)params->delegate};
    }
    kernels[params->nodes->size].output = -1;
    return kernels;
}

static void kernel_free(TfLiteContext *context, void *kernels) {
    (void)context;
    free(kernels);
}

static int kernel_prepare(TfLiteContext *context, TfLiteNode *node) {
    (void)context, (void)node;
    return OK;
}

static int kernel_invoke(TfLiteContext *context, TfLiteNode *node) {
    for (const Kernel *kernel = node->user_data; kernel->output >= 0; kernel++) {
        const TfLiteTensor *weights = &context->tensors[kernel->weights];
        const int rows = weights->dims->data[0], columns = weights->dims->data[1];
        const float *input = context->tensors[kernel->input].data, *w = weights->data;
        const float *bias = kernel->bias < 0 ? NULL : context->tensors[kernel->bias].data;
        float *output = context->tensors[kernel->output].data;
        if (is_mode(kernel->delegate, "crash-invoke")) abort();
        if (is_mode(kernel->delegate, "hang-invoke"))
            while (access(getenv("HANG_WHILE"), F_OK) == 0) sleep(1);
        if (is_mode(kernel->delegate, "fail-invoke")) {
            context->ReportError(context, "the accelerator lost power");
            return ERROR;
        }
        for (int row = 0; row < rows; row++) {
            float sum = bias ? bias[row] : 0;
            for (int column = 0; column < columns; column++) sum += w[row * columns + column] * input[column];
            output[row] = sum + (is_mode(kernel->delegate, "wrong") ? 1 : 0);
        }
    }
    return OK;
}

static bool takes(TfLiteContext *context, int index) {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    if (context->GetNodeAndRegistration(context, index, &node, &registration) != OK) return false;
    if (registration->builtin_code != FULLY_CONNECTED) return false;
    for (int i = 0; i < node->inputs->size; i++) {
        const int tensor = node->inputs->data[i];
        if (tensor >= 0 && context->tensors[tensor].type != FLOAT32) return false;
    }
    /* The activation comes first in the node's data; 0 is none. The kernel is for one row. */
    return *(const int *)node->builtin_data == 0 && context->tensors[node->inputs->data[0]].dims->data[0] == 1;
}

static int prepare(TfLiteContext *context, TfLiteDelegate *delegate) {
    const TfLiteRegistration kernel = {.init = kernel_init, .free = kernel_free, .prepare = kernel_prepare,
                                       .invoke = kernel_invoke, .custom_name = "TestDelegate", .version = 1};
    const Delegate *self = (const Delegate *)delegate;
    TfLiteIntArray *plan, *taken;
    int result;
    if (is_mode(self, "crash-prepare")) abort();
    if (is_mode(self, "fail-prepare")) {
        context->ReportError(context, "the accelerator is of another generation");
        return ERROR;
    }
    if (is_mode(self, "nothing")) return OK;
    if (context->GetExecutionPlan(context, &plan) != OK) return ERROR;
    taken = malloc(sizeof(TfLiteIntArray) + sizeof(int) * (size_t)plan->size);
    taken->size = 0;
    for (int i = 0; i < plan->size; i++)
        if (takes(context, plan->data[i])) taken->data[taken->size++] = plan->data[i];
    result = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, taken, delegate);
    free(taken);
    return result;
}

#ifndef INCOMPLETE
TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                              void (*report_error)(const char *)) {
    Delegate *self = calloc(1, sizeof(Delegate));
    self->delegate.Prepare = prepare;
    strcpy(self->mode, "compute");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i], "mode") != 0) {
            report_error("there is no option ");
            report_error(keys[i]);
            free(self);
            return NULL;
        }
        strncpy(self->mode, values[i], sizeof(self->mode) - 1);
    }
    if (is_mode(self, "talk")) puts("a delegate that says what it does");
    if (is_mode(self, "crash")) abort();
    while (is_mode(self, "hang")) sleep(1);
    if (is_mode(self, "refuse")) {
        report_error("no accelerator is plugged in\n");
        free(self);
        return NULL;
    }
    return &self->delegate;
}
#endif

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) { free(delegate); }
