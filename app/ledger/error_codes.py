"""Every error code that a server gives by name, and whether it passes: whether the same command may
succeed later.

From `src/mongo/base/error_codes.yml` in MongoDB's source (commit 007ba934, and what earlier
versions named), and two of services that speak its protocol: 8000 of Atlas and 16500 of Azure
Cosmos DB.

Temporary errors are in the servers: their roles, connections, load, space, or other work. Permanent
errors are in the question, in permissions, or in the configuration: someone must act first. Codes
without a name here are the numbers of single checks in a server's source: what was asked is wrong.
"""

# fmt: off
PASSING = {
    # A member changes its role, starts or ends; the set has no primary, or too few members.
    6: "HostUnreachable", 7: "HostNotFound", 64: "WriteConcernTimeout", 71: "ReplicaSetNotFound", 74: "NodeNotFound",
    91: "ShutdownInProgress", 94: "NotYetInitialized", 100: "UnsatisfiableWriteConcern", 113: "InitialSyncFailure",
    133: "FailedToSatisfyReadPreference", 134: "ReadConcernMajorityNotAvailableYet", 135: "StaleTerm",
    149: "NoConfigPrimary", 164: "InitialSyncActive", 187: "LinearizableReadConcernError", 189: "PrimarySteppedDown",
    190: "MasterSlaveConnectionFailure", 199: "ReplicaSetMonitorRemoved", 216: "ElectionInProgress",
    217: "IncompleteTransactionHistory", 278: "UnsatisfiableCommitQuorum", 303: "SplitHorizonChange",
    308: "CurrentConfigNotCommittedYet", 315: "TooStaleToSyncFromSource", 333: "ServiceExecutorInShutdown",
    372: "CloseConnectionForShutdownCommand", 10058: "LegacyNotPrimary", 10107: "NotWritablePrimary",
    11600: "InterruptedAtShutdown", 11602: "InterruptedDueToReplStateChange", 13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary", 56846: "ConfigServerUnreachable",
    # A connection between servers, or ours.
    83: "RemoteResultsUnavailable", 89: "NetworkTimeout", 145: "PooledConnectionsDropped",
    172: "TransportSessionClosed", 173: "TransportSessionNotFound", 174: "TransportSessionUnknown",
    202: "NetworkInterfaceExceededTimeLimit", 317: "ConnectionPoolExpired", 384: "ConnectionError",
    398: "StreamTerminated", 404: "LDAPRoleAcquisitionError", 407: "PooledConnectionAcquisitionExceededTimeLimit",
    9001: "SocketException",
    # A person, or a time limit, ended the command; repeated, it may succeed.
    24: "LockTimeout", 43: "CursorNotFound", 46: "LockBusy", 50: "MaxTimeMSExpired", 82: "NoProgressMade",
    90: "CallbackCanceled", 107: "LockFailed", 129: "LockStateChangeFailed", 136: "CappedPositionLost",
    143: "CursorInUse", 175: "QueryPlanKilled", 208: "TooManyLocks", 237: "CursorKilled", 262: "ExceededTimeLimit",
    279: "ClientDisconnect", 281: "TransactionCoordinatorSteppingDown",
    282: "TransactionCoordinatorReachedAbortDecision", 290: "TransactionExceededLifetimeLimitSeconds",
    310: "PeriodicJobIsStopped", 312: "OperationIsKilledAndDelisted", 314: "ObjectIsBusy",
    337: "AuthenticationAbandoned", 355: "InterruptedDueToStorageChange", 413: "TransactionParticipantFailedUnyield",
    453: "InterruptedDueToReshardingCriticalSection", 11601: "Interrupted", 46841: "ClientMarkedKilled",
    91331: "RetriableRemoteCommandFailure", 10045600: "InterruptedDueToFCVChange",
    # Others write the same, or change what is written to.
    109: "ConfigurationInProgress", 112: "WriteConflict", 117: "ConflictingOperationInProgress", 128: "LockNotFound",
    215: "DatabaseDropPending", 221: "IndexModified", 239: "SnapshotTooOld", 245: "BrokenPromise",
    246: "SnapshotUnavailable", 251: "NoSuchTransaction", 259: "KeyedExecutorRetry",
    267: "PreparedTransactionInProgress", 272: "MigrationConflict", 276: "IndexBuildAborted",
    285: "IndexBuildAlreadyInProgress", 363: "RetryableTransactionInProgress", 369: "FLETransactionAbort",
    385: "ConflictingServerlessOperation", 12586: "BackgroundOperationInProgressForDatabase",
    12587: "BackgroundOperationInProgressForNamespace", 4938500: "IndexNotFoundCachedPlan",
    # A session or transaction that is gone; the next call begins another.
    206: "NoSuchSession", 213: "DuplicateSession", 225: "TransactionTooOld", 228: "SessionTransferIncomplete",
    244: "NOT_YET_AVAILABLE_TransactionAborted", 356: "TxnRetryCounterTooOld", 358: "InternalTransactionNotSupported",
    374: "TransactionAPIMustRetryTransaction", 375: "TransactionAPIMustRetryCommit", 391: "ReauthenticationRequired",
    # A router, or a shard, that is not up to date; data on the move.
    63: "OBSOLETE_StaleShardVersion", 70: "ShardNotFound", 150: "StaleEpoch", 194: "BalancerInterrupted",
    200: "ChunkRangeCleanupPending", 203: "ShardingStateNotInitialized", 209: "StaleClusterTime",
    210: "CannotVerifyAndSignLogicalTime", 211: "KeyNotFound", 227: "CannotImplicitlyCreateCollection",
    234: "RetryChangeStream", 249: "StaleDbVersion", 250: "StaleChunkHistory",
    287: "TransactionCoordinatorDeadlineTaskCanceled", 289: "WaitForMajorityServiceEarlierOpTimeAvailable",
    306: "ReadThroughCacheLookupCanceled", 311: "TransactionCoordinatorCanceled", 319: "MovePrimaryInProgress",
    321: "TenantMigrationCommitted", 325: "TenantMigrationAborted", 328: "TenantMigrationAccessBlockerShuttingDown",
    329: "TenantMigrationInProgress", 335: "TenantMigrationForgotten",
    326: "OplogQueryMinTsMissing", 336: "TimeseriesBucketCleared", 338: "ReshardCollectionInProgress",
    341: "ReshardCollectionAborted", 342: "ReshardingCriticalSectionTimeout", 343: "ShardCannotRefreshDueToLocksHeld",
    360: "PlacementVersionRefreshCanceled", 379: "DatabaseMetadataRefreshCanceled",
    381: "ReshardingCoordinatorServiceConflictingOperationInProgress", 382: "RemoteCommandExecutionError",
    406: "MigrationBlockingOperationCoordinatorCleaningUp", 410: "TimeseriesBucketFrozen", 412: "UpdatesStillPending",
    414: "AddOrRemoveShardInProgress", 442: "RetryMultiPlanning",
    445: "DatabaseMetadataRefreshCanceledDueToFCVTransition", 446: "ClusterUMCErrorWithWriteConcernError",
    447: "ObjectAlreadyExists", 9996: "OBSOLETE_RecvStaleConfig", 13388: "StaleConfig",
    # A server with too much to do, or too little room; or one that does not take writes for a
    # while.
    261: "TooManyLogicalSessions", 264: "TooManyFilesOpen", 365: "TemporarilyUnavailable", 371: "UserWritesBlocked",
    402: "ResourceExhausted", 433: "AdmissionQueueOverflow", 449: "RateLimitExceeded",
    450: "PooledConnectionAcquisitionRejected", 462: "IngressRequestRateLimitExceeded", 14031: "OutOfDiskSpace",
    16500: "RequestRateTooLarge", 50915: "BackupCursorOpenConflictWithCheckpoint",
    # The server's own trouble, whatever was asked: another member, or the same one mended, answers.
    1: "InternalError", 8: "UnknownError", 37: "FileRenameFailed", 39: "FileStreamFailed", 42: "LogWriteFailed",
    176: "FileOpenFailed", 301: "DataCorruptionDetected", 316: "QueryTrialRunCompleted",
}
"""Code → name. MongoDB's own retryable codes, those of PyMongo's lists, and the rest of their kind.
"""

PERMANENT = {
    2: "BadValue", 3: "OBSOLETE_DuplicateKey", 4: "NoSuchKey", 5: "GraphContainsCycle", 9: "FailedToParse",
    10: "CannotMutateObject", 11: "UserNotFound", 12: "UnsupportedFormat", 13: "Unauthorized", 14: "TypeMismatch",
    15: "Overflow", 16: "InvalidLength", 17: "ProtocolError", 18: "AuthenticationFailed", 19: "CannotReuseObject",
    20: "IllegalOperation", 21: "EmptyArrayOperation", 22: "InvalidBSON", 23: "AlreadyInitialized",
    25: "RemoteValidationError", 26: "NamespaceNotFound", 27: "IndexNotFound", 28: "PathNotViable",
    29: "NonExistentPath", 30: "InvalidPath", 31: "RoleNotFound", 32: "RolesNotRelated", 33: "PrivilegeNotFound",
    34: "CannotBackfillArray", 35: "UserModificationFailed", 36: "RemoteChangeDetected", 38: "FileNotOpen",
    40: "ConflictingUpdateOperators", 41: "FileAlreadyOpen", 45: "UserDataInconsistent", 47: "NoMatchingDocument",
    48: "NamespaceExists", 49: "InvalidRoleModification", 51: "ManualInterventionRequired",
    52: "DollarPrefixedFieldName", 53: "InvalidIdField", 54: "NotSingleValueField", 55: "InvalidDBRef",
    56: "EmptyFieldName", 57: "DottedFieldName", 58: "RoleModificationFailed", 59: "CommandNotFound",
    60: "OBSOLETE_DatabaseNotFound", 61: "ShardKeyNotFound", 62: "OplogOperationUnsupported",
    65: "MultipleErrorsOccurred", 66: "ImmutableField", 67: "CannotCreateIndex", 68: "IndexAlreadyExists",
    69: "AuthSchemaIncompatible", 72: "InvalidOptions", 73: "InvalidNamespace", 75: "WriteConcernLegacyOK",
    76: "NoReplicationEnabled", 77: "OperationIncomplete", 78: "CommandResultSchemaViolation",
    79: "UnknownReplWriteConcern", 80: "RoleDataInconsistent", 81: "NoMatchParseContext",
    84: "OBSOLETE_DuplicateKeyValue", 85: "IndexOptionsConflict", 86: "IndexKeySpecsConflict", 87: "CannotSplit",
    88: "OBSOLETE_SplitFailed", 92: "SecondaryAheadOfPrimary", 93: "InvalidReplicaSetConfig", 95: "NotSecondary",
    96: "OperationFailed", 97: "NoProjectionFound", 98: "DBPathInUse", 101: "OutdatedClient",
    102: "IncompatibleAuditMetadata", 103: "NewReplicaSetConfigurationIncompatible", 104: "NodeNotElectable",
    105: "IncompatibleShardingMetadata", 106: "DistributedClockSkewed", 108: "InconsistentReplicaSetNames",
    110: "CannotInitializeNodeWithData", 111: "NotExactValueField", 114: "InitialSyncOplogSourceMissing",
    115: "CommandNotSupported", 116: "DocTooLargeForCapped", 118: "NamespaceNotSharded", 119: "InvalidSyncSource",
    120: "OplogStartMissing", 121: "DocumentValidationFailure", 122: "OBSOLETE_ReadAfterOptimeTimeout",
    123: "NotAReplicaSet", 124: "IncompatibleElectionProtocol", 125: "CommandFailed",
    126: "RPCProtocolNegotiationFailed", 127: "UnrecoverableRollbackError", 130: "SymbolNotFound",
    131: "RLPInitializationFailed", 132: "OBSOLETE_ConfigServersInconsistent",
    137: "IncompatibleShardingConfigVersion", 138: "RemoteOplogStale", 139: "JSInterpreterFailure",
    140: "InvalidSSLConfiguration", 141: "SSLHandshakeFailed", 142: "JSUncatchableError",
    144: "IncompatibleCatalogManager", 146: "ExceededMemoryLimit", 147: "ZLibError",
    148: "ReadConcernMajorityNotEnabled", 151: "OperationCannotBeBatched", 152: "OplogOutOfOrder", 153: "ChunkTooBig",
    154: "InconsistentShardIdentity", 155: "CannotApplyOplogWhilePrimary", 156: "OBSOLETE_NeedsDocumentMove",
    157: "CanRepairToDowngrade", 158: "MustUpgrade", 159: "DurationOverflow", 160: "MaxStalenessOutOfRange",
    161: "IncompatibleCollationVersion", 162: "CollectionIsEmpty", 163: "ZoneStillInUse",
    165: "ViewDepthLimitExceeded", 166: "CommandNotSupportedOnView", 167: "OptionNotSupportedOnView",
    168: "InvalidPipelineOperator", 169: "CommandOnShardedViewNotSupportedOnMongod", 170: "TooManyMatchingDocuments",
    171: "CannotIndexParallelArrays", 177: "ZoneNotFound", 178: "RangeOverlapConflict", 179: "WindowsPdhError",
    180: "BadPerfCounterPath", 181: "AmbiguousIndexKeyPattern", 182: "InvalidViewDefinition",
    183: "ClientMetadataMissingField", 184: "ClientMetadataAppNameTooLarge", 185: "ClientMetadataDocumentTooLarge",
    186: "ClientMetadataCannotBeMutated", 188: "IncompatibleServerVersion",
    191: "OBSOLETE_BalancerLostDistributedLock", 192: "FailPointEnabled", 193: "OBSOLETE_NoShardingEnabled",
    195: "ViewPipelineMaxSizeExceeded", 197: "InvalidIndexSpecificationOption", 198: "OBSOLETE_ReceivedOpReplyMessage",
    201: "CannotBuildIndexKeys", 204: "TimeProofMismatch", 205: "ClusterTimeFailsRateLimiter", 207: "InvalidUUID",
    212: "IncompatibleRollbackAlgorithm", 214: "AuthenticationRestrictionUnmet", 218: "UpdateOperationFailed",
    219: "FTDCPathNotSet", 220: "FTDCPathAlreadySet", 222: "CloseChangeStream", 223: "IllegalOpMsgFlag",
    224: "QueryFeatureNotAllowed", 226: "AtomicityFailure", 229: "MustDowngrade", 230: "DNSHostNotFound",
    231: "DNSProtocolError", 232: "MaxSubPipelineDepthExceeded", 233: "TooManyDocumentSequences",
    235: "InternalErrorNotSupported", 236: "ForTestingErrorExtraInfo", 238: "NotImplemented",
    240: "DNSRecordTypeMismatch", 241: "ConversionFailure", 242: "CannotCreateCollection",
    243: "IncompatibleWithUpgradedServer", 247: "ProducerConsumerQueueBatchTooLarge",
    248: "ProducerConsumerQueueEndClosed", 252: "ReentrancyNotAllowed", 253: "FreeMonHttpInFlight",
    254: "FreeMonHttpTemporaryFailure", 255: "FreeMonHttpPermanentFailure", 256: "TransactionCommitted",
    257: "TransactionTooLarge", 258: "UnknownFeatureCompatibilityVersion", 260: "InvalidResumeToken",
    263: "OperationNotSupportedInTransaction", 265: "OrphanedRangeCleanUpFailed", 266: "FailPointSetFailed",
    268: "CannotBackup", 269: "DataModifiedByRepair", 270: "RepairedReplicaSetNode",
    271: "JSInterpreterFailureWithStack", 273: "ProducerConsumerQueueProducerQueueDepthExceeded",
    274: "ProducerConsumerQueueConsumed", 275: "ExchangePassthrough", 277: "AlarmAlreadyFulfilled",
    280: "ChangeStreamFatalError", 283: "WouldChangeOwningShard",
    284: "ForTestingErrorExtraInfoWithExtraInfoInNamespace", 286: "ChangeStreamHistoryLost", 288: "ChecksumMismatch",
    291: "NoQueryExecutionPlans", 292: "QueryExceededMemoryLimitNoDiskUseAllowed", 293: "InvalidSeedList",
    294: "InvalidTopologyType", 295: "InvalidHeartBeatFrequency", 296: "TopologySetNameRequired",
    297: "HierarchicalAcquisitionLevelViolation", 298: "InvalidServerType", 299: "OCSPCertificateStatusRevoked",
    300: "RangeDeletionAbandonedBecauseCollectionWithUUIDDoesNotExist", 302: "OCSPCertificateStatusUnknown",
    307: "RangeDeletionAbandonedBecauseTaskDocumentDoesNotExist", 309: "ExhaustCommandFinished",
    313: "ResumableRangeDeleterDisabled", 318: "ForTestingOptionalErrorExtraInfo", 322: "APIVersionError",
    323: "APIStrictError", 324: "APIDeprecationError", 330: "SkipCommandExecution", 331: "FailedToRunWithReplyBuilder",
    332: "CannotDowngrade",
    327: "NoSuchTenantMigration", 364: "TxnRetryCounterNotSupported",
    334: "MechanismUnavailable", 339: "NoSuchReshardCollection",
    340: "ReshardCollectionCommitted", 344: "AuditingNotEnabled", 345: "RuntimeAuditConfigurationNotEnabled",
    346: "ChangeStreamInvalidated", 347: "APIMismatchError", 348: "ChangeStreamTopologyChange",
    349: "KeyPatternShorterThanBound", 350: "ReshardCollectionTruncatedError", 351: "ChangeStreamStartAfterInvalidate",
    352: "UnsupportedOpQueryCommand", 354: "LoadBalancerSupportMismatch", 357: "InvalidBSONType",
    359: "CannotConvertIndexToUnique", 361: "CollectionUUIDMismatch", 362: "FutureAlreadyRetrieved",
    366: "WouldChangeOwningShardDeletedNoDocument", 367: "FLECompactionPlaceholder", 370: "CannotDropShardKeyIndex",
    373: "InternalTransactionsExhaustiveFindHasMore", 376: "ChangeStreamNotEnabled", 377: "FLEMaxTagLimitExceeded",
    378: "NonConformantBSON", 380: "RequestAlreadyFulfilled", 383: "CollectionIsEmptyLocally", 386: "DuplicateKeyId",
    387: "EncounteredFLEPayloadWhileApplyingHmac", 388: "TransactionTooLargeForCache", 389: "LibmongocryptError",
    390: "InvalidSignature", 392: "InvalidJWT", 393: "InvalidTenantId", 395: "TruncatedSerialization",
    396: "IndexInformationTooLarge", 400: "CannotUpgrade", 401: "ResumeTenantChangeStream",
    403: "UnsupportedShardingEventNotification", 405: "CannotCreateChunkDistribution",
    408: "CannotInsertTimeseriesBucketsWithMixedSchema", 409: "TimeseriesBucketCompressionFailed",
    411: "QueryRejectedBySettings", 415: "StreamProcessorDoesNotExist", 416: "StreamProcessorAlreadyExists",
    417: "StreamProcessorWorkerShuttingDown", 418: "StreamProcessorWorkerOutOfMemory",
    419: "StreamProcessorKafkaConnectionError", 420: "StreamProcessorInvalidOptions",
    421: "StreamProcessorAtlasConnectionError", 422: "StreamProcessorAtlasUnauthorizedError",
    423: "StreamProcessorSourceDocTooLarge", 424: "StreamProcessorTooManyOutputTargets",
    425: "StreamProcessorCannotResumeFromSource", 426: "IndexIsEmpty", 427: "DbCheckSecondaryBatchTimeout",
    428: "DbCheckAttemptOnClusteredCollectionIdIndex", 429: "DbCheckInconsistentHash", 430: "IndexKeyOrderViolation",
    431: "ChunkMetadataInconsistency", 432: "OfflineValidationFailedToComplete",
    434: "NoDistinctScansForDistinctEligibleQuery", 435: "QueryStatsFailedToRecord",
    436: "StreamProcessorHTTPSConnectionError", 440: "StreamProcessorExternalFunctionConnectionError",
    443: "StreamProcessorS3ConnectionError", 444: "StreamProcessorS3Error", 448: "StreamProcessorInvalidNamespace",
    451: "StreamProcessorS3TokenExpired", 452: "ReleaseMemoryShardError", 454: "ReplayClientConfigurationError",
    455: "ReplayClientNotConnected", 456: "ReplayClientFailedToProcessBSON", 457: "ReplayClientInternalError",
    458: "ReplayClientSessionSchedulerError", 459: "ReplayClientSessionSimulationError",
    460: "StreamProcessorKinesisConnectionError", 461: "StreamProcessorKinesisError", 8000: "AtlasError",
    10003: "CannotGrowDocumentInCappedNamespace", 10334: "BSONObjectTooLarge", 11000: "DuplicateKey",
    13104: "OBSOLETE_PrepareConfigsFailed", 13113: "MergeStageNoMatchingDocument", 13297: "DatabaseDifferCase",
    17280: "OBSOLETE_KeyTooLong", 28769: "NamespaceCannotBeSharded", 31082: "SearchNotEnabled",
    40413: "IDLDuplicateField", 40414: "IDLFailedToParse", 40415: "IDLUnknownField",
    50768: "NotARetryableWriteCommand", 57986: "RetryableInternalTransactionNotSupported",
    640570: "IllegalChangeToExpectedShardVersion", 640571: "IllegalChangeToExpectedDatabaseVersion",
    1003141: "RemoveShardDrainingInProgress", 4662500: "IDLUnknownFieldPossibleMongocryptd",
    9737301: "UnsupportedCbrNode", 9751901: "HistogramCEFailure", 9751902: "SamplingCEFailure", 9751903: "CEFailure",
    10171600: "ReadThroughCacheTimeMonotonicityViolation",
}
"""Code → name."""
# fmt: on

PASSING_LABELS = (
    "RetryableWriteError", "RetryableError", "SystemOverloadedError", "TransientTransactionError",
    "UnknownTransactionCommitResult",
)  # fmt: skip
"""Labels by which a server, or the driver, says that the same may be tried again, whatever the
code.

https://github.com/mongodb/specifications: retryable-writes, transactions, client-backpressure.
"""


def name_of(code: int) -> str | None:
    """The code's name; `None` where it has none."""
    return PASSING.get(code) or PERMANENT.get(code)
